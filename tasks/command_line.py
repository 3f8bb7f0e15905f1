"""The words of `nightshift`: its commands and their options. What they do is in tasks/cli.py."""

from __future__ import annotations

import argparse
from pathlib import Path

ABOUT = ("What is live, what was, and what a person decides: promote, roll back, import data, take a preset; and questions to "
         "the live release, asked here or over HTTP.")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="nightshift", description=ABOUT)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("status", help="the last release beside the one before it, and what is live")
    commands.add_parser("releases", help="all releases, the last first")
    one = commands.add_parser("show", help="one release in full, or beside another")
    one.add_argument("release", metavar="RELEASE", help="its id, or the beginning or end of it")
    shown = one.add_mutually_exclusive_group()
    shown.add_argument("--compare", metavar="OTHER", help="show what differs from this release")
    shown.add_argument("--card", action="store_true", help="write its model card as a page, and say where")
    back = commands.add_parser("trace", help="where a release comes from, or which releases a judgement has shaped")
    back.add_argument("release", nargs="?", metavar="RELEASE", help="back to stages, data, annotations (default: the live one)")
    back.add_argument("--annotation", metavar="ID", help="this annotation forward; with RELEASE: what it was in that one")
    back.add_argument("--annotator", metavar="WHO", help="all of a person's forward; with --annotation: theirs of this id")
    back.add_argument("--stage", metavar="NAME", help="one stage of the release in full: command, parameters, inputs, outputs")
    back.add_argument("--html", type=Path, metavar="FILE", help="write the release's trace as a page")
    back.add_argument("--json", action="store_true", help="all of it as one JSON object")
    out = commands.add_parser("promote", help="make the candidate of the last night live")
    out.add_argument("--documents", action="store_true", help="the live model with the documents of the last dvc repro retrieve")
    out.add_argument("--again", action="store_true", help="also when this very release was rolled back before")
    back = commands.add_parser("rollback", help="make the release before the live one live again")
    back.add_argument("release", nargs="?", metavar="RELEASE", help="or this one")
    for command in (out, back):
        command.add_argument("--no-commit", dest="commit", action="store_false", help="leave the commit to you")
    spent = commands.add_parser("costs", help="what the last nights took: time, CPU, memory and disk, stage by stage")
    spent.add_argument("--runs", type=int, default=30, metavar="N", help="look at the last N (default: 30)")
    spent.add_argument("--json", action="store_true", help="a JSON object a run, the oldest first")
    kept = commands.add_parser("adapters", help="adapters of releases, and any of them compared on one base, unmerged")
    kept.add_argument("--compare", nargs="+", metavar="RELEASE", help="let these answer held-out cases, each switched on in turn")
    kept.add_argument("--cases", type=int, default=100, metavar="N", help="of each evaluation set (default: %(default)s)")
    commands.add_parser("builds", help="builds of the search index, which one the store points at, and what is wrong there")
    commands.add_parser("bootstrap", help="fill data/ on a fresh clone")
    commands.add_parser("fetch", help="take the rows of all sources in params.yaml into data/documents/sql")
    own = commands.add_parser("import", help="your own instructions and documents into data/")
    own.add_argument("--instructions", nargs="+", type=Path, required=True, metavar="FILE",
                     help="rows in .json or .jsonl: Alpaca, ShareGPT, messages, prompt/completion")
    own.add_argument("--documents", type=Path, metavar="DIR",
                     help="folder of Markdown, HTML, PDF, DOCX, text, CSV, TSV, JSONL and JSON files")
    own.add_argument("--keep-others", action="store_true", help="keep the other kinds of data that data/ has")
    asked = commands.add_parser("ask", help="answer a question from the live release's documents")
    asked.add_argument("question", metavar="QUESTION")
    asked.add_argument("--release", metavar="RELEASE", help="ask this release instead")
    asked.add_argument("--json", action="store_true", help="answer and sources as one JSON object")
    asked.add_argument("--no-stream", dest="stream", action="store_false", help="print the answer when it is complete")
    told = commands.add_parser("feedback", help="what is kept of questions, answers and feedback; and removing it")
    told.add_argument("--delete", metavar="ANSWER_ID", help="remove one question with its answer and feedback")
    told.add_argument("--purge", action="store_true", help="remove all of it")
    served = commands.add_parser("serve", help="answer questions over HTTP, with a page to try it")
    served.add_argument("--host", help="instead of serve.host; beyond loopback set NIGHTSHIFT_API_KEY")
    served.add_argument("--port", type=int, help="instead of serve.port; 0 takes a free one")
    back = commands.add_parser("collect", help="what people have said in Label Studio into data/")
    back.add_argument("--from", dest="files", nargs="+", type=Path, default=[], metavar="FILE",
                      help="from files of Label Studio's JSON export, not from the server")
    back.add_argument("--again", action="store_true", help="read all tasks of the server, not only what has changed")
    gone = commands.add_parser("withdraw", help="an annotator's judgements out of all data that is to come")
    gone.add_argument("--annotator", required=True, metavar="WHO",
                      help="name in the data, Label Studio user id, or e-mail address")
    twin = commands.add_parser("reproduce", help="make a release again from its commit and compare every byte")
    twin.add_argument("release", metavar="RELEASE", help="its id, or the beginning or end of it")
    twin.add_argument("--from-cache", action="store_true", help="check the bytes in DVC's cache and remote; compute nothing")
    twin.add_argument("--stages", nargs="+", metavar="STAGE", help="only these and the stages they need")
    twin.add_argument("--in", dest="within", type=Path, metavar="DIR", help="where the work tree goes, outside the checkout")
    twin.add_argument("--keep", action="store_true", help="keep the work tree")
    twin.add_argument("--dry-run", dest="dry", action="store_true", help="say what would be done and what is promised")
    twin.add_argument("--json", action="store_true", help="the result as one JSON object; progress goes to stderr")
    look = commands.add_parser("doctor", help="what is missing, broken or misconfigured, and what to do")
    look.add_argument("--remote", action="store_true", help="ask DVC's remote too whether it has everything")
    look.add_argument("--json", action="store_true", help="the findings as one JSON object")
    swept = commands.add_parser(
        "gc", help="outputs of nights that no release needs out of DVC's cache",
        description="Removes from DVC's cache what is needed by no release (also those rolled back), no branch, no tag, no work "
                    "tree, none of the last retention.nights nights. Shows it and asks first.",
    )  # fmt: skip
    for command in (back, gone, swept):
        command.add_argument("--dry-run", dest="dry", action="store_true", help="say what would be done")
    swept.add_argument("--yes", action="store_true", help="do not ask")
    swept.add_argument("--remote", action="store_true",
                       help="out of DVC's default remote too. What another clone needs and has not pushed to a git remote of "
                            "this one cannot be known, and goes")
    swept.add_argument("--projects", nargs="*", type=Path, metavar="DIR",
                       help="other projects that use the same DVC cache: what they need stays, too. Without DIR: there are none; "
                            "it has to be said where the cache lies outside this project")
    swept.add_argument("--despite-missing", dest="despite", action="store_true",
                       help="go on where lists of files that a release names are neither in cache nor remote")
    preset = commands.add_parser("preset", help="lay presets/NAME.yaml over params.yaml")
    preset.add_argument("name", metavar="NAME")
    return top
