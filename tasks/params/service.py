"""Sections of what runs around the graph and is no stage's input: serve, labelling, feedback, nightly, notify, retention,
scale."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.params.fields import Count, Fraction, Natural, Positive, Section


class Serve(Section):
    """The HTTP service; never part of a stage's inputs."""

    host: str = Field(description="address to listen on; beyond loopback NIGHTSHIFT_API_KEY must be set")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(description="TCP port; 0 takes a free one")
    max_question_characters: Count = Field(description="characters of a question")
    max_body_kilobytes: Count = Field(description="size of a request's body, in 2^10 bytes")
    max_passages: Count = Field(description="passages that one search may ask for")
    concurrent: Count = Field(description="answers and searches worked on at once; each uses compute.threads threads")
    queue: Natural = Field(description="requests that may wait for their turn; the next one is refused")
    answer_seconds: Positive = Field(description="seconds a request may take in all, its wait included")
    poll_seconds: Positive = Field(description="seconds between two looks at the release pointer")


class Webhook(Section):
    """The receiver that wakes a collection (python -m flows.webhook). Its secret: NIGHTSHIFT_WEBHOOK_SECRET."""

    host: str = Field(description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(description="TCP port; 0 takes a free one")
    wake_after: Count = Field(description="new judgements after which a collection is woken")


class Labelling(Section):
    """Label Studio, where people judge answers; never part of a stage's inputs. Its token: LABEL_STUDIO_API_KEY."""

    url: str | None = Field(description="address of the server; null: nobody labels")
    project: Annotated[str, Field(min_length=3, max_length=30)] = Field(description="titles of the projects begin with it")
    queue: Count = Field(description="tasks that wait for a person; only complaints and corrections are sent beyond it")
    overlap: Fraction = Field(description="share of the tasks that two people judge, to measure agreement")
    pseudonyms: bool = Field(description="annotators by salted hash (salt: NIGHTSHIFT_ANNOTATOR_SALT); false: by their id there")
    reread_minutes: Annotated[float, Field(ge=0)] = Field(
        description="minutes before the newest change seen that a collection reads again: clocks and transactions overlap")
    timeout_seconds: Positive = Field(description="seconds to wait for one answer of the server")
    attempts: Count = Field(description="times a request is made before a server out of reach counts as down")
    webhook: Webhook = Field(description="wakes a collection; without it, polling finds the same")


class Feedback(Section):
    """What users say of answers (make serve); never part of a stage's inputs."""

    log: bool = Field(description="keep questions and answers with their release, and take thumbs and corrections")
    days: Count = Field(description="days that they are kept")
    max_characters: Count = Field(description="characters of a reason or a corrected answer")


class Nightly(Section):
    """How the flow runs the graph; never part of a stage's inputs."""

    parallel: Count = Field(description="stages side by side; each may use compute.threads threads")
    lock_minutes: Positive = Field(description="minutes to wait while another dvc command, a collection or the like is at work")
    push_minutes: Positive = Field(description="minutes after which a push is given up until the next night")
    git_remote: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = Field(
        description="name of the git remote that the nights' branch is pushed to, after the DVC remote has what it names")
    approval: Literal["auto", "ask", "manual"] = Field(
        description="auto: promote what the gate lets out; ask: on the terminal, or by hand; manual: ask in Prefect's UI")
    approval_hours: Positive = Field(description="hours that a request in Prefect's UI waits for an answer")


About = Literal["failed", "waiting", "held_back", "released", "missing"]


class Notify(Section):
    """Messages on what nights did (deploy/notifications.py); never part of a stage's inputs. The block keeps the secret."""

    block: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None = Field(
        description="a notification block on Prefect's server, as type/name: slack-webhook/team; null: nobody is told")
    about: list[About] = Field(
        description="failed: a run of a deployment failed or crashed; waiting: a release waits for a person's word; held_back: "
                    "the gate refuses one; released: one is live; missing: no night has completed for missing_hours")
    missing_hours: Positive = Field(description="hours since a night has completed after which one is missing")
    quiet_hours: Annotated[float, Field(ge=0)] = Field(
        description="hours after a failure in which the same deployment's next ones of the same kind are not told; 0: each is")


class Retention(Section):
    """What nightshift gc keeps beside releases, branches, tags and what is checked out; never part of a stage's inputs."""

    nights: Natural = Field(description="nights whose outputs stay: those of the last days on which one ran; 0: the last alone")


class Scale(Section):
    """Who does the work of the stages that can be spread, embed and candidates; never part of a stage's inputs, for it changes
    no byte (tasks/spread)."""

    engine: Literal["local", "ray"] = Field(description="local: the stage's own process; ray: workers, whole batches each")
    address: Annotated[str, Field(pattern=r"^(ray://)?([\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}$")] | None = Field(
        description="of a Ray cluster: host:port on one of its machines, ray://host:port elsewhere; null: Ray on this machine, "
                    "for the time of the stage. A cluster's token comes from the environment: RAY_AUTH_MODE, RAY_AUTH_TOKEN")
    workers: Count = Field(description="processes with a model each; each takes compute.threads processors, or one GPU")
    start_seconds: Positive = Field(description="seconds to wait for the cluster, and for its workers to begin")
