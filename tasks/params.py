"""The only reader of params.yaml. One frozen model a section; no default hides here, and a typo is an error at the door.

Each field's description carries its unit. A stage function names the sections it needs by annotation
(`def sft(cfg: Sft, compute: Compute, …)`), and dvc.yaml lists the same sections under `params:`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tasks.errors import ParamsError

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: values are fixed once read, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Seed(Section):
    """One seed for everything that draws."""

    value: Annotated[int, Field(ge=0, lt=2**31)] = Field(description="seed of sampling, shuffling and initialisation")


def _renamed(value: object) -> object:
    if value == "bf16-autocast":
        raise ValueError("is called bf16 now, and holds for stages that answer too; a stage's own precision goes before it")
    return value


Precision = Annotated[Literal["fp32", "bf16", "fp16"], BeforeValidator(_renamed)]


class Compute(Section):
    """Where and how exactly the sums are done."""

    threads: Count = Field(description="CPU threads of a training process; another number may change the bits")
    precision: Precision = Field(
        description="arithmetic of the stages that state none of their own. Trainings keep fp32 weights and make matrix "
                    "products in it (autocast); stages that only answer have their weights in it too")
    device: Literal["auto", "cpu", "cuda"] = Field(description="auto takes a GPU where there is one")
    reproducible: Literal["this-cpu", "any-x86"] = Field(
        description="equal bytes again on this kind of processor, or on x86 processors of any make (tasks/environment.py)")

    @model_validator(mode="after")
    def _on_a_cpu(self) -> Compute:
        if self.reproducible == "any-x86" and self.device != "cpu":
            raise ValueError(f"reproducible: any-x86 needs device: cpu, not {self.device}")
        return self

    def at(self, precision: str | None) -> Compute:
        """The same place with a stage's own precision, where it has one."""
        return self if precision is None else self.model_copy(update={"precision": precision})


class Precise(Section):
    """A stage that computes, and may say how exactly."""

    precision: Precision | None = Field(
        description="arithmetic of this stage: fp32, bf16 or fp16 (in which a GPU alone trains); null: compute.precision")


class SqlSource(Section):
    """One SQL query whose rows become documents."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = Field(description="name of its snapshot: a-z 0-9 - _")
    url: str | None = Field(None, description="SQLAlchemy URL without a password; in its place url_env")
    url_env: str | None = Field(None, description="environment variable that holds the URL")
    query: str = Field(description="one SELECT, or WITH … SELECT")
    title: str | None = Field(None, description="column that names a row; absent: by its name (title, name, subject, …)")
    text: str | None = Field(None, description="column with long text; absent: by its name (text, content, body, …)")

    @model_validator(mode="after")
    def _one_address(self) -> SqlSource:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("needs either url or url_env")
        return self


class Sources(Section):
    """Databases whose rows are snapshotted into data/documents before a night; never part of a stage's inputs."""

    sql: list[SqlSource] = Field(description="queries, each with its database")
    max_rows: Count = Field(description="rows of a query; one that gives more is refused")
    max_seconds: Positive = Field(description="seconds to connect and read")

    @model_validator(mode="after")
    def _apart(self) -> Sources:
        names = [source.name for source in self.sql]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are called {twice[0]}")
        return self


class Lora(Section):
    """A low-rank adapter: W₀ + (α/r)·BA (Hu et al. 2021, eq. 3), B = 0 at the start."""

    r: Count = Field(description="rank")
    alpha: Positive = Field(description="scale; the update is multiplied by alpha / r")
    dropout: Fraction = Field(description="dropout on the adapter's input")
    targets: list[str] | Literal["all-linear"] = Field(description="module names that get an adapter")


class MinRows(Section):
    """Rows that each kind of data needs at least. 0: the night can do without this kind, and says so."""

    instructions: Count = Field(description="rows of data/instructions")
    preferences: Natural = Field(description="rows of data/preferences; without any, nothing is aligned")
    prompts: Natural = Field(description="rows of data/prompts; without any, held-out instructions are asked instead")
    evaluation: Natural = Field(description="cases of all sets in data/evaluation; with 0 a set may be missing")


class Validate(Section):
    """Checks of the raw data. Rows that fail within a bound are left out by prepare; beyond it the night stops."""

    languages: Annotated[list[str], Field(min_length=1)] = Field(description="language codes that rows may have")
    min_rows: MinRows = Field(description="kind of data → rows that it needs at least")
    max_bad_rows: Fraction = Field(description="share of a kind's rows that may fail a check (evaluation: none may)")
    max_bad_documents: Fraction = Field(description="share of the documents that may fail a check")
    max_duplicates: Fraction = Field(description="share of the rows that may be there twice")
    max_overlap: Fraction = Field(description="share of the training rows that may ask what an evaluation set asks")
    max_prompt_characters: Count = Field(description="characters of all messages before the answer")
    max_answer_characters: Count = Field(description="characters of an answer")
    max_document_megabytes: Positive = Field(description="size of a document's file, in 2^20 bytes")
    max_document_seconds: Count = Field(description="processor seconds that reading a document may take")
    min_document_characters: Count = Field(description="characters of text in a document, at least")
    max_document_characters: Count = Field(description="characters of text in a document, at most")


class Prepare(Section):
    """Canonical rows, deduplication, splits, pairs."""

    eval_share: Fraction = Field(description="share of the prompts kept apart to watch training by")
    max_prompt_characters: Count = Field(description="characters of all messages before the answer; longer rows are left out")
    max_answer_characters: Count = Field(description="characters of an answer; longer ones are left out")
    similarity: Fraction = Field(description="Jaccard similarity of 3-token shingles from which rows may be near duplicates")
    added_words: Natural = Field(
        description="words by which near duplicates may differ; numbers, negations and changed words always keep both")
    pairs_per_prompt: Count = Field(description="preference pairs made of one prompt's rankings, at most")
    prompt_weight: Positive = Field(description="loss weight of a prompt, shared equally by its pairs")
    max_instructions: Count | None = Field(description="instruction rows that training gets, at most; null: all")
    max_ranked_prompts: Count | None = Field(description="prompts whose pairs training gets, at most; null: all")
    max_prompts: Count | None = Field(description="prompts to sample answers for, at most; null: all")
    max_cases: Count | None = Field(description="cases of each evaluation set, at most; null: all")


class Base(Section):
    """The model that everything starts from."""

    model: str = Field(description="starter, gemma-3-270m, a folder, or a hub id (owner/name; then `revision` is needed)")
    revision: str | None = Field(description="commit hash of a hub model (40 hex digits); null for all others")
    chat_template: Literal["chatml", "gemma", "model"] = Field(
        description="template to install from tasks/templates, or the model's own")
    accept_license: str | None = Field(description="licence terms that you accept, where the model needs it: gemma")


class Training(Precise):
    """What the three trainings (sft, reward, align) have in common."""

    lora: Lora = Field(description="the adapter that is trained")
    epochs: Count = Field(description="passes over the training rows")
    learning_rate: Positive = Field(description="peak learning rate of AdamW")
    warmup: Fraction = Field(description="share of the steps in which the rate rises from 0")
    weight_decay: Annotated[float, Field(ge=0)] = Field(description="AdamW's decoupled weight decay")
    batch_size: Count = Field(description="rows (or pairs) of one forward pass")
    accumulate: Count = Field(description="forward passes of one optimizer step")
    max_length: Count = Field(description="tokens; longer rows are left out, counted and reported")
    log_every: Count = Field(description="optimizer steps between two points of curve.jsonl")
    save_every: Count = Field(description="optimizer steps between two checkpoints; a multiple of log_every")

    @model_validator(mode="after")
    def _aligned(self) -> Training:
        """A checkpoint between two points of the curve would lose the sums of the next point on resuming."""
        if self.save_every % self.log_every:
            raise ValueError(f"save_every ({self.save_every}) must be a multiple of log_every ({self.log_every})")
        return self


class Sft(Training):
    """Supervised fine-tuning on instruction rows; the loss is on the response only."""

    packing: bool = Field(description="join rows to sequences of max_length tokens, with attention kept apart (bfd)")


class Candidates(Precise):
    """Answers sampled from the SFT model, for people to rank."""

    answers: Count = Field(description="answers sampled for a prompt")
    temperature: Positive = Field(description="divides the logits before sampling; 1 samples the model itself")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(description="probability mass of the nucleus sampled from")
    max_new_tokens: Count = Field(description="tokens after which an answer is cut")
    batch_size: Count = Field(description="prompts answered at once")


class Select(Precise):
    """Active choice: which prompts people are asked about first, and which of their sampled answers they see."""

    answers: Annotated[int, Field(ge=2, le=4)] = Field(
        description="answers shown of a prompt: 2 side by side (A, B, tie), 3 or 4 to rank")
    random: Fraction = Field(description="share of the order that chance picks, so that what the model is sure of is seen too")
    batch_size: Count = Field(description="answers scored at once")


class Reward(Training):
    """Reward model on pairs: −log σ(r_chosen − r_rejected)."""

    center: Annotated[float, Field(ge=0)] = Field(description="weight of (r_chosen + r_rejected)², which keeps the scores near 0")
    bins: Count = Field(description="bins of the calibration table")


class Dpo(Section):
    """Direct preference optimization (Rafailov et al. 2023) with terms that keep the model whole."""

    beta: Positive = Field(description="temperature; larger stays nearer the reference")
    losses: dict[str, Positive] = Field(min_length=1, description="TRL loss type → weight, e.g. sigmoid: 1, sft: 1")


class Align(Training):
    """Preference training of the SFT model."""

    method: str = Field(description="dpo | none: nothing is trained, the aligned model is the SFT model")
    dpo: Dpo = Field(description="what only method dpo reads")
    samples: Count = Field(description="held-out prompts that are answered at the end, to gate on the text itself")
    max_new_tokens: Count = Field(description="tokens after which such an answer is cut")
    min_ended: Fraction = Field(description="least share of those answers that end by themselves")
    min_distinct: Fraction = Field(description="least share of different texts among them")
    max_logprob_drop: Annotated[float, Field(ge=0)] = Field(
        description="nats a token that held-out chosen answers may lose against the SFT model")


class Merge(Section):
    """Adapters into dense weights."""

    tolerance: Positive = Field(description="largest |Δlogit| between merged model and adapters that is accepted")
    prompts: Count = Field(description="prompts on which the two are compared")


class Evaluate(Precise):
    """Held-out behaviours of base, SFT and aligned model."""

    max_new_tokens: Count = Field(description="tokens after which an answer is cut, and then counts as degenerate")
    batch_size: Count = Field(description="prompts answered, compared or scored at once")
    concise_words: Count = Field(description="most words of a concise English answer; citations are not counted")
    concise_characters: Count = Field(description="most letters, digits and characters of a concise Chinese answer")
    kl_prompts: Count = Field(description="held-out prompts to which the aligned model is sampled for its KL")
    champion_cases: Count | None = Field(
        description="cases of each set whose answers travel with a release, to be compared with the next ones; null: all")
    reference_cases: Count = Field(description="held-out instruction rows whose answers are compared by chrF, at most")


class Quantize(Precise):
    """GPTQ (Frantar et al. 2022) of the merged model's linear layers, and the comparison with the unquantized model."""

    bits: Literal[4, 8] = Field(description="bits of a quantized weight")
    group_size: Literal[16, 32, 64, 128, 256, 512, 1024] = Field(
        description="weights that share a scale; must divide the input width of every quantized layer. (-1, a scale a row, is "
                    "refused: the CPU kernel that readers choose for it at 4 bits reads no zero-points)")
    symmetric: bool = Field(description="levels symmetric about 0; false: each group has a zero-point of its own too")
    act_order: bool = Field(description="quantize columns in order of activation size; slower to serve on some kernels")
    act_group_aware: bool = Field(
        description="quantize whole groups in order of activation size: most of act_order's gain at no cost in serving")
    damp: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="added to the Hessian's diagonal, as a share of its mean, so that it can be inverted")
    scale_search: bool = Field(description="search each group's scale for the least error; false: its largest weight")
    calibration_chats: Count = Field(description="training chats that the Hessians are summed over")
    max_length: Count = Field(description="tokens; calibration chats are cut there")
    chats: Count = Field(description="held-out chats on which the quantized model is compared with the unquantized one")
    max_new_tokens: Count = Field(description="tokens after which an answer in that comparison is cut")
    batch_size: Count = Field(description="chats of one forward pass")

    @model_validator(mode="after")
    def _goes_together(self) -> Quantize:
        """GPTQModel would say so after hours, and in its own words."""
        if self.act_order and self.act_group_aware:
            raise ValueError("act_order and act_group_aware are two orders of the same columns: set one of them to false")
        return self


class Embed(Precise):
    """Documents into chunks with vectors."""

    model: str = Field(description="starter | minilm | a folder | a hub id (owner/name) of a sentence-transformers model | "
                                   "with an endpoint, the name that it has there")
    revision: str | None = Field(description="commit hash of a hub id")
    query_prefix: str | None = Field(description="text put before every question; null: what the model's own settings say")
    passage_prefix: str | None = Field(description="text put before every chunk; null: what the model's own settings say")
    max_tokens: Annotated[int, Field(ge=16)] = Field(
        description="longest chunk with its heading path, in tokens of the embedding model")
    together: Literal["section", "paragraph"] = Field(
        description="what a chunk may join: all of a section, or only one paragraph, list or table of it")
    overlap_sentences: Natural = Field(
        description="sentences that a chunk repeats from the one before it, within a section")
    batch_size: Count = Field(description="chunks of one forward pass")
    unknown_warning: Fraction = Field(description="warn when the model knows less than 1 − this share of a language's tokens")
    max_megabytes: Positive = Field(description="larger documents are reported and left out")
    endpoint: str | None = Field(
        description="address of an OpenAI-compatible server that has `model`, up to /v1; null: the model runs here")
    tokenizer: str | None = Field(
        description="what counts tokens for an endpoint: a folder or hub id with tokenizer.json; null: an estimate")
    save_every: Count = Field(description="new vectors after which they are saved, for a run that is killed")
    max_seconds: Count = Field(
        description="processor seconds that reading a document may take before it is reported and left out")


class Weaviate(Section):
    """Where a Weaviate server listens. Its key comes from the environment: WEAVIATE_API_KEY."""

    host: str = Field(description="name or address, for REST and gRPC")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(description="REST port")
    grpc_port: Annotated[int, Field(ge=1, le=65535)] = Field(description="gRPC port")
    secure: bool = Field(description="TLS on both")
    alias: Annotated[str, Field(pattern=r"^[A-Z][0-9A-Za-z]{0,60}$")] = Field(
        description="alias of the live build; the names of its collections begin with it")


class Index(Section):
    """Chunks into a search index, and how it is searched."""

    store: Literal["lancedb", "weaviate"] = Field(description="the search engine")
    folder: str = Field(description="lancedb: where stores are built, a folder a build; git-ignored, rebuilt when missing")
    weaviate: Weaviate = Field(description="weaviate: the server")
    keep: Annotated[int, Field(ge=2)] = Field(
        description="builds that are kept: the live one and the ones before it; a query may still be at the last")
    exact_below: Count = Field(description="chunks up to which dense search compares all; above, an IVF index")
    probes: Count = Field(description="chunks that must be found by their own text before a build counts as good")
    candidates: Count = Field(description="chunks that dense and sparse search each bring to a hybrid search")
    alpha: Fraction = Field(description="weight of dense search in hybrid: 0 is words alone (BM25), 1 vectors alone")


class Answers(Precise):
    """Questions looked up in the index, and answered from it by the model that would be released."""

    top_k: Count = Field(description="passages in the prompt")
    headings: Literal["path", "section", "none"] = Field(
        description="what stands above a passage in the prompt: title and headings, the innermost heading, or nothing")
    depth: Count = Field(description="ranked documents that recall, MRR and nDCG look at")
    reranker: str | None = Field(
        description="folder or hub id (owner/name) of a sentence-transformers CrossEncoder; null: hybrid order stays")
    reranker_revision: str | None = Field(description="commit hash of a hub id")
    rerank: Count = Field(description="first passages of hybrid search that the reranker puts in order")
    max_new_tokens: Count = Field(description="tokens after which an answer is cut")
    batch_size: Count = Field(description="questions of one forward pass")
    grounded_share: Fraction = Field(
        description="least share of a grounded answer's content words that stand in its passages or the question")

    @model_validator(mode="after")
    def _reranked(self) -> Answers:
        """A passage in the prompt that the reranker has not seen would stand there by another order."""
        if self.reranker is not None and self.rerank < self.top_k:
            raise ValueError(f"rerank ({self.rerank}) must be top_k ({self.top_k}) or more")
        return self


class Gate(Section):
    """What a release must reach, and how much it may lose against the live one. null switches a rule off."""

    correct: Fraction | None = Field(description="least share of facts and context cases answered right")
    correct_in_any_language: Fraction | None = Field(description="the same in the language with the lowest share")
    preferred: Fraction | None = Field(description="least share of grounded cases answered the way people prefer")
    abstains: Fraction | None = Field(description="least share of unanswerable cases on which it abstains")
    over_abstains: Fraction | None = Field(description="greatest share of answerable cases on which it abstains")
    degenerate: Fraction | None = Field(description="greatest share of answers empty, cut or repeating themselves")
    most_frequent: Fraction | None = Field(description="greatest share of one text among answers to answerable cases")
    sft_gain: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        description="least lower end of the interval of SFT's gain over the base in right answers")
    reference_gain: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        description="least lower end of the interval of the aligned model's gain over the base in chrF, 0 … 1")
    alignment_loss: Fraction | None = Field(
        description="right answers that preference training may cost: the interval must lie above minus this")
    kl: Positive | None = Field(description="nats an answer, greatest KL(aligned ‖ SFT)")
    reward_accuracy: Fraction | None = Field(description="least accuracy of the reward model on correctness pairs")
    agreement: Fraction | None = Field(description="least share of answer tokens on which the quantized model agrees")
    quantized_correct_loss: Fraction | None = Field(
        description="right answers that quantization may cost: the interval must lie below this")
    quantized_preferred_loss: Fraction | None = Field(description="the same for answers the way people prefer")
    quantized_degenerate: Fraction | None = Field(
        description="greatest share of the quantized model's answers empty, cut or repeating themselves")
    documents_right: Fraction | None = Field(
        description="least share of questions on data/documents that the quantized model answers right")
    documents_found: Fraction | None = Field(description="least share of them whose retrieved passages hold the value")
    retrieval_loss: Fraction | None = Field(
        description="values among the passages that search may lose against the live release's, at worst")
    seen_cases: Natural | None = Field(description="most cases of the test sets that rows trained on ask")
    against_champion: Literal["better", "not_worse", "floors"] = Field(
        description="better: worse than the live release in nothing and proven better in something; not_worse: the first "
                    "alone; floors: it is not compared")
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        description="chance that a model which is no better (with not_worse: one worse by a margin) goes out within `nights`")
    nights: Count = Field(description="nights that share alpha: each spends alpha / nights")
    champion_cases: Annotated[int, Field(ge=2)] = Field(
        description="least shared cases of a comparison; with fewer the live release stays")
    champion_proves: list[Literal["correct", "preferred", "abstains", "over_abstains", "degenerate", "reference"]] = Field(
        min_length=1, description="behaviours of which one must be proven better; each may spend its part of the night's level")
    champion_correct_loss: Fraction | None = Field(description="share of right answers that may be lost, at worst")
    champion_preferred_loss: Fraction | None = Field(description="the same for answers the way people prefer")
    champion_abstains_loss: Fraction | None = Field(description="the same for abstentions on unanswerable cases")
    champion_over_abstains_rise: Fraction | None = Field(
        description="share of answerable cases on which it may abstain more, at worst")
    champion_degenerate_rise: Fraction | None = Field(
        description="share of answers that may be empty, cut or repetitive more, at worst")
    champion_reference_loss: Fraction | None = Field(
        description="chrF on held-out instructions that may be lost, at worst, 0 … 1")

    @model_validator(mode="after")
    def _asks_something(self) -> Gate:
        """"Not worse" in nothing would let everything out and look like a comparison."""
        limits = [name for name in type(self).model_fields if name.startswith("champion_") and name.endswith(("_loss", "_rise"))]
        if self.against_champion == "not_worse" and all(getattr(self, name) is None for name in limits):
            raise ValueError("against_champion: not_worse asks nothing, for every champion_… limit is null; take floors")
        return self


class Release(Section):
    """What a release says of itself."""

    name: str = Field(description="the model's name on its card")
    license: str = Field(description="license of the weights, for the card; the base model's terms hold")
    figures: dict[str, str] = Field(
        min_length=1,
        description="label → stage.key.path of a number in metrics/; the label's last word is its unit: %, MB or other")


class Page(Section):
    """The nightly report (section `report`)."""

    samples: Count = Field(description="cases shown per set, language and verdict (as wanted, or not)")
    characters: Annotated[int, Field(ge=40)] = Field(
        description="characters of a shown question, note or answer; longer ones are cut")


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
    lock_minutes: Positive = Field(description="minutes to wait while another dvc command holds the lock")
    push_minutes: Positive = Field(description="minutes after which a push to the DVC remote is given up until the next night")
    approval: Literal["auto", "ask", "manual"] = Field(
        description="auto: promote what the gate lets out; ask: on the terminal, or by hand; manual: ask in Prefect's UI")
    approval_hours: Positive = Field(description="hours that a request in Prefect's UI waits for an answer")


class Recipe(Section):
    """All that decides what a release is: the sections of the stages that lead to it, to be written down with it."""

    seed: Seed
    compute: Compute
    validate_: Validate = Field(alias="validate")
    prepare: Prepare
    base: Base
    sft: Sft
    reward: Reward
    align: Align
    merge: Merge
    evaluate: Evaluate
    quantize: Quantize
    embed: Embed
    index: Index
    answers: Answers
    gate: Gate
    release: Release


class Params(Section):
    """The whole of params.yaml."""

    seed: Seed
    compute: Compute
    sources: Sources
    validate_: Validate = Field(alias="validate")
    prepare: Prepare
    base: Base
    sft: Sft
    candidates: Candidates
    reward: Reward
    select: Select
    align: Align
    merge: Merge
    evaluate: Evaluate
    quantize: Quantize
    embed: Embed
    index: Index
    answers: Answers
    gate: Gate
    release: Release
    report: Page
    serve: Serve
    labelling: Labelling
    feedback: Feedback
    nightly: Nightly

    def precisions(self) -> dict[str, Precise]:
        """Where params.yaml says how exactly a stage computes, its own place or compute.precision → such a section, one that
        trains before one that answers."""
        found: dict[str, Precise] = {}
        for name in type(self).model_fields:
            section = getattr(self, name)
            if isinstance(section, Precise):
                place = "compute.precision" if section.precision is None else f"{name}.precision"
                if place not in found or isinstance(section, Training):
                    found[place] = section
        return found

    def section(self, kind: type[Kind]) -> Kind:
        """The one section of this type, or the Recipe; the way a stage's signature asks for its parameters."""
        if kind is Recipe:
            fields = {field.alias or name: getattr(self, name) for name, field in Recipe.model_fields.items()}
            return kind.model_validate(fields)
        for name in type(self).model_fields:
            value = getattr(self, name)
            if type(value) is kind:
                return value
        raise ParamsError(kind.__name__, "is no section of params.yaml", f"take one of {', '.join(type(self).model_fields)}")


Kind = TypeVar("Kind", bound=Section)


def load(path: Path) -> Params:
    """Read and check params.yaml; every wrong value is named by section and field before any heavy import."""
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(str(path), "is missing",
                          "run from the repository root, or restore it: git checkout params.yaml") from None
    except yaml.YAMLError as error:
        raise ParamsError(str(path), f"is not YAML ({error})", "mend the line it names") from None
    if not isinstance(raw, dict):
        raise ParamsError(str(path), "holds no sections", "restore it: git checkout params.yaml")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        problems = [_problem(path, item) for item in error.errors()]
        raise ParamsError(problems[0] if len(problems) == 1 else "\n  ".join([f"{path}: {len(problems)} problems", *problems]),
                          remedy="correct params.yaml, or git diff params.yaml to see what changed") from None


def _problem(path: Path, item: dict) -> str:
    """One pydantic error in a user's words, with the nearest right name for a typo."""
    import difflib

    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _known(item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return f"{path}: {where}: no such parameter ({hint})"
    if item["type"] == "missing":
        return f"{path}: {where}: is missing (params.yaml is complete: no default hides in code)"
    found = "" if isinstance(item["input"], dict) or "url" in item["loc"] else f" (found {item['input']!r})"
    return f"{path}: {where}: {item['msg']}{found}"  # a URL may hold a password, and a whole section is no answer


def _known(loc: tuple) -> list[str]:
    model: type[BaseModel] = Params
    for part in loc:
        if isinstance(part, int):  # of a list
            continue
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        found = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if found is None:
            return []
        model = found
    return [field.alias or name for name, field in model.model_fields.items()]
