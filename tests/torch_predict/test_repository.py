from __future__ import annotations

import pytest
import torch

from dl_inference.serving.load_error import LoadError
from dl_inference.serving.settings import ModelFolderError
from torch_predict import repository
from torch_predict.errors import PickleNotAllowed

CPU = torch.device("cpu")


@pytest.fixture
def model_at(write):
    """Save a state dict as version folders of one model."""

    def model_at(*places, files=None):
        folder = write(files or {})
        for place in places:
            (folder / place).mkdir(exist_ok=True)
            torch.save({"a": torch.zeros(1)}, folder / place / "model.pt")
            (folder / place / "model.py").write_text("class Model: pass")
        return folder

    return model_at


def texts(folder):
    return [str(problem) for problem in repository.check(folder)]


def test_an_unversioned_folder_is_version_1(model_at):
    folder = repository.find(model_at("."))
    assert folder.name == "m"
    assert [(v.number, v.path) for v in folder.chosen()] == [(1, folder.path)]


def test_a_folder_of_model_folders_names_them(model_at):
    assert [text.partition(": ")[2] for text in texts(model_at("digits", "39a"))] == [
        "holds no model, but model folders; name one of them: 39a, digits"
    ]


def test_an_unversioned_folder_may_have_a_number_for_a_name(write):
    folder = write({"model.py": "class Model: pass"}, folder="39")
    torch.save({"a": torch.zeros(1)}, folder / "model.pt")
    assert repository.find(folder).name == "39"


def test_the_latest_version_is_served_by_number_not_by_text(model_at):
    folder = repository.find(model_at("2", "10", "0009"))
    assert [v.number for v in folder.versions] == [2, 9, 10]
    assert [v.number for v in folder.chosen()] == [10]


def test_model_yaml_says_which_versions_are_served(model_at):
    files = {"model.yaml": "versions: [2, 3]\nlabels: {stable: 2}\naliases: [39, digits]\ntimeout_ms: 500"}
    folder = repository.find(model_at("1", "2", "3", files=files))
    assert [v.number for v in folder.chosen()] == [2, 3]
    assert folder.settings.aliases == ["39", "digits"]
    assert folder.settings.timeout_ms == 500


def test_other_folders_are_no_versions(model_at):
    assert [v.number for v in repository.find(model_at("1", "samples", "v2", "-3", "٣")).versions] == [1]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no model; put exactly one of model.pt2, model.pt, model.pth, model.safetensors there"),
        ({"model.pt": "", "model.pth": ""}, "holds two models: model.pt and model.pth; keep one"),
        ({"model.pt2": "x"}, "is damaged, or no aotinductor or exported model (1 bytes)"),
        ({"model.pt": "x"}, "is damaged, or no torchscript or eager or pickled model (1 bytes)"),
        ({"saved_model.pb": ""}, "holds a TensorFlow SavedModel"),
        ({"1/model.pt": "", "01/model.pt": ""}, "is version 1 again"),
        ({"1/x": "", "model.pt": ""}, "model.pt: is not used: the folder has versions"),
        ({"1/x": "", "processor.py": ""}, "processor.py: is not used: the folder has versions"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_with_place_and_remedy(write, files, words):
    folder = write(files)
    assert any(words in text for text in texts(folder)), texts(folder)
    with pytest.raises(ModelFolderError):
        repository.find(folder)


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("version: [1]", "model.yaml:1: version: is not a known key; did you mean 'versions'?"),
        ("versions: [7]", "model.yaml: versions: 7: there is no version 7; found: 1"),
        ("labels: {stable: 7}", "model.yaml: labels.stable: 7: there is no version 7; found: 1"),
        ("versions: [1]\nlabels: {stable: 2}", "label 'stable' names version 2, which is not in versions"),
        ("timeout_ms: 5\nversions: [010]", "model.yaml:2: versions.0: YAML reads 010 as 8; write 8, or the number"),
        ("timeout_ms: 1:30", "model.yaml:1: timeout_ms: YAML reads 1:30 as 90"),
        ("\nmax_batch: true", "model.yaml:2: max_batch: true and false are neither numbers"),
        ("versions: &a [*a]", "model.yaml:1: versions"),
        ("versions: [true]", "model.yaml:1: versions: true and false are neither numbers"),
        ("aliases: [yes]", "model.yaml:1: aliases: true and false are neither numbers nor names; put a name in quotes"),
        ("timeout_ms: 0", "model.yaml:1: timeout_ms: Input should be greater than 0"),
        ("versions: []", "model.yaml:1: versions: List should have at least 1 item"),
        ("- 1", "model.yaml: holds a list; write 'key: value' lines"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_with_model_yaml_is_said_with_place_and_remedy(model_at, yaml, words):
    assert any(words in text for text in texts(model_at("1", files={"model.yaml": yaml}))), words


def test_an_empty_model_yaml_means_the_defaults(model_at):
    assert repository.check(model_at("1", files={"model.yaml": "\n"})) == []


def test_every_problem_is_said_at_once(write):
    folder = write({"model.yaml": "a: 1\nb: 2", "1/model.pt": "x", "2/x": "", "processor.py": ""})
    assert len(texts(folder)) == 5


def test_check_reads_python_files_without_running_them(model_at):
    folder = model_at("1")
    (folder / "1" / "processor.py").write_text("x = 1\ndef preprocess(x:\n")
    (folder / "1" / "model.py").write_text("raise SystemExit")
    assert [t for t in texts(folder) if "processor.py:2: is not Python" in t]
    (folder / "1" / "processor.py").unlink()
    (folder / "1" / "model.py").unlink()
    assert "model.py: is missing: model.pt holds weights only; write a class Model there" in texts(folder)[0]


def test_a_folder_that_is_not_there_is_a_problem(tmp_path):
    assert texts(tmp_path / "no") == [
        f"{tmp_path / 'no'}: is not a folder; name a folder that holds model.pt2 or versions of it"
    ]


class TestPickles:
    @pytest.fixture
    def pickled(self, write):
        folder = write({})
        torch.save(torch.nn.Linear(1, 1), folder / "model.pth")
        return folder

    def load(self, path, allow_pickle):
        folder = repository.find(path)
        return repository.load(folder, folder.chosen()[-1], allow_pickle=allow_pickle, device=CPU)

    def test_a_whole_pickle_is_not_loaded_and_the_error_says_how_and_why_not(self, pickled):
        with pytest.raises(PickleNotAllowed) as caught:
            self.load(pickled, allow_pickle=False)
        text = str(caught.value)
        for words in (
            "runs whatever code its author put into it",
            "state_dict",
            "--allow-pickle",
            "allow_pickle: true",
        ):
            assert words in text
        assert repository.check(pickled) == [caught.value.problem]

    def test_the_command_line_allows_it(self, pickled):
        assert self.load(pickled, allow_pickle=True)(torch.zeros(1, 1)).shape == (1, 1)
        assert repository.check(pickled, allow_pickle=True) == []

    def test_model_yaml_allows_it(self, pickled):
        (pickled / "model.yaml").write_text("allow_pickle: true")
        assert self.load(pickled, allow_pickle=False) is not None
        assert repository.check(pickled) == []


def test_loading_says_what_is_wrong_with_the_content(model_at):
    path = model_at(".")
    folder = repository.find(path)
    with pytest.raises(LoadError, match=r"not a torch\.nn\.Module"):
        repository.load(folder, folder.chosen()[0], allow_pickle=False, device=CPU)


def test_aliases_that_repeat_themselves_take_no_time(write):
    lines = ["a0: &a0 [1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    (folder := write({})).joinpath("model.yaml").write_text("\n".join(lines[:20]))
    assert any("a19: is not a known key" in str(each) for each in repository.check(folder))


def test_a_model_yaml_that_may_not_be_read_is_told(write):
    (folder := write({})).joinpath("model.yaml").mkdir()
    assert any("model.yaml: cannot be read: Is a directory" in str(each) for each in repository.check(folder))
