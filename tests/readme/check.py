"""Runs the blocks of commands in README.md as a reader does, and compares what they print with what is shown.

All blocks marked `console` run in the order in which they stand, in one shell, in a copy of the tree. A line that begins with `$ ` is a
command, and the lines behind it are what it prints, where `…` stands for any text. A block without such lines only has to succeed.
What takes long and is run by .ci/run itself, the tests, is left out, and programs are built as the tests are: without `--release`.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
LEFT_OUT = "cargo test "


def blocks(text):
    return re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S)


def steps(block):
    """The commands of a block, each with what it prints, or None."""
    if not re.search(r"^\$ ", block, re.M):
        return [(line, None) for line in block.replace("\\\n", "").splitlines() if line.strip()]
    found = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return [(command, "\n".join(lines)) for command, lines in found]


def as_pattern(shown):
    return ".*?".join(re.escape(part) for part in shown.split("…"))


def as_built_here(command):
    return command.replace(" --release", "").replace("cargo install ", "cargo install --quiet --debug ")


class Shell:
    """One shell for all steps. Each step prints into a file of its own, also what it starts in the background."""

    def __init__(self, place, environment):
        self.place, self.count = place, 0
        self.process = subprocess.Popen(["bash", "--norc"], cwd=place / "fastauth", env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, command):
        self.count += 1
        output = self.place / f"step-{self.count}"
        self.process.stdin.write(f"{{ {command}\n}} > {output} 2>&1 < /dev/null; echo $?\n")
        self.process.stdin.flush()
        status = self.process.stdout.readline().strip()
        return status, output.read_text(errors="replace")

    def end(self):
        self.process.stdin.write("kill $(jobs -p) 2>/dev/null\n")
        self.process.stdin.close()
        self.process.wait()


def copy_of_the_tree(place):
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True).stdout
    subprocess.run(["tar", "--null", "--ignore-failed-read", "-cf", place / "tree.tar", "-T", "-"], cwd=ROOT, input=names,
                   check=True, stderr=subprocess.DEVNULL)
    (place / "fastauth").mkdir()
    subprocess.run(["tar", "-xf", place / "tree.tar", "-C", place / "fastauth"], check=True)


def broken_links(name):
    """The files that a page links to and that are not there."""
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.S)
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing = [target for target in targets if not ((ROOT / name).parent / target).exists()]
    anchors = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)}
    return missing + [f"#{target}" for target in re.findall(r"\]\(#([^)]+)\)", text) if target not in anchors]


def check(name, place):
    text = (ROOT / name).read_text()
    environment = {key: value for key, value in os.environ.items() if not re.search("FASTAUTH|MASTER_TOKEN|CRYPTOGRAPHY", key)}
    # What is needed was fetched when the tests were built, and there may be no network here.
    environment.update(CARGO_NET_OFFLINE="true", CARGO_TARGET_DIR=str(TARGET), CARGO_INSTALL_ROOT=str(place / "installed"),
                       PATH=f"{place / 'installed/bin'}:{environment['PATH']}")
    shell, faults = Shell(place, environment), []
    for block in blocks(text):
        for command, shown in steps(block):
            if command.startswith(LEFT_OUT):
                print(f"left out: {command}", flush=True)
                continue
            print(f"$ {command}", flush=True)
            status, printed = shell.run(as_built_here(command))
            if status != "0":
                faults.append(f"`{command}` ends with {status}: {printed}")
            elif shown is not None and not re.fullmatch(as_pattern(shown), printed.strip(), re.S):
                faults.append(f"`{command}` prints\n{printed}\nand not\n{shown}")
    shell.end()
    return faults


def main():
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        copy_of_the_tree(place)
        faults = [f"README.md: {target} is not there" for target in broken_links("README.md")] + check("README.md", place)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        sys.exit(1)
    print("README.md: every block does what it shows")


if __name__ == "__main__":
    main()
