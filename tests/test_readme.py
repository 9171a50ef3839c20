"""What the READMEs show runs, and what they promise is what continuous tests run."""

import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
READMES = [ROOT / "README.md", *sorted(ROOT.glob("[!.]*/**/README.md"))]


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_blocks_run_in_order(path):
    names = {}
    for block in blocks(path, "python"):
        exec(compile(block, str(path), "exec"), names)


def test_the_test_command_is_the_one_that_is_run():
    commands = "\n".join(blocks(ROOT / "README.md", "sh"))
    tests = [line for line in commands.splitlines() if line.endswith("-m pytest")]
    assert len(tests) == 1
    assert tests[0] in (ROOT / ".ci" / "run").read_text().splitlines()


def sections(path):
    """The names by which links go to the headings of a file."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_linked_files_and_sections_exist(path):
    links = re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", path.read_text())
    for target, section in links:
        linked = path.parent / target if target else path
        assert linked.exists(), target
        assert not section or section in sections(linked), f"{target}#{section}"


def test_a_package_index_shows_no_links_to_files():
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]
    text = (ROOT / "README.md").read_text()
    for change in hook["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    assert not re.findall(r"\]\((?!https?:|#)", text)
    assert "| `rllc` |" in text
