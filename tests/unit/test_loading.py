import logging
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from xai_core.classifier.classifier import Classifier
from xai_core.classifier.loading import load_classifier, preset_of
from xai_core.classifier.preset import IMAGENET, Normalization, Preset
from xai_core.classifier.torch_backend import TorchClassifier
from xai_core.errors import ClassifierError, MissingExtraError, ParameterError, WeightsError
from xai_core.torchvision_import import import_torchvision

REAL_WEIGHTS = Path(__file__).parents[3] / "shared/data/weights"

# One small member of each family of torchvision.
FAMILIES = [
    "alexnet",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
]


class Tiny(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.conv(images).mean(dim=(2, 3)))
        return logits


def image(side: int = 64) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fail whatever would fetch, and keep torch's own cache out of the tests."""

    def refuse(*_args: object, **_options: object) -> None:
        raise urllib.error.URLError("the network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def factories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], str]:
    """Write a module ``shop`` with the given source and return its name."""

    def write(source: str) -> str:
        (tmp_path / "shop.py").write_text("from torch import nn\n" + source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "shop", raising=False)
        return "shop"

    return write


# --- torchvision ---


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_torchvision_is_built_with_random_weights(name: str) -> None:
    size = (96, 96) if name == "inception_v3" else (64, 64)
    classifier = load_classifier(name, weights="random", num_classes=5, size=size)
    assert classifier.num_classes == 5
    assert classifier.name == name
    assert classifier.mean == IMAGENET.mean


def test_a_random_vit_takes_the_size_that_is_asked_for() -> None:
    classifier = load_classifier("vit_b_32", weights="random", num_classes=5, size=(64, 64))
    assert classifier.scores(image(64)).shape == (1, 5)


def test_random_weights_depend_on_the_seed_alone() -> None:
    first = load_classifier("squeezenet1_1", weights="random", size=(64, 64))
    torch.rand(3)
    assert (
        load_classifier("squeezenet1_1", weights="random", size=(64, 64)).fingerprint
        == first.fingerprint
    )
    other = load_classifier("squeezenet1_1", weights="random", size=(64, 64), seed=1)
    assert other.fingerprint != first.fingerprint


def test_loading_leaves_the_global_random_state_as_it_was() -> None:
    before = torch.random.get_rng_state()
    load_classifier("squeezenet1_1", weights="random", size=(64, 64), seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("resnet18", "pth"),
        ("densenet121", "safetensors"),
        ("mobilenet_v3_small", "pth"),
        ("squeezenet1_1", "safetensors"),
    ],
)
def test_a_fine_tuned_file_brings_its_number_of_classes(
    name: str, suffix: str, tmp_path: Path
) -> None:
    module = import_torchvision().models.get_model(name, weights=None, num_classes=7).eval()
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": module.state_dict()}, path)
    else:
        safetensors.torch.save_file(module.state_dict(), path)
    classifier = load_classifier(name, weights=path, size=(64, 64))
    assert classifier.num_classes == 7
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))
    with torch.no_grad():
        expected = module((image() - mean) / std)
    torch.testing.assert_close(classifier.logits(image()), expected, rtol=1e-3, atol=1e-4)


def test_a_vit_file_brings_its_image_size(tmp_path: Path) -> None:
    models = import_torchvision().models
    module = models.vit_b_32(weights=None, image_size=64, num_classes=3)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    classifier = load_classifier("vit_b_32", weights=tmp_path / "w.pth")
    assert (classifier.size, classifier.num_classes) == ((64, 64), 3)
    with pytest.raises(ClassifierError, match=r"is for 64 x 64 images, got size \(96, 96\)"):
        load_classifier("vit_b_32", weights=tmp_path / "w.pth", size=(96, 96))


@pytest.mark.parametrize("auxiliary", [True, False])
def test_googlenet_files_load_with_and_without_auxiliary_heads(
    auxiliary: bool, tmp_path: Path
) -> None:
    module = import_torchvision().models.googlenet(
        weights=None, num_classes=4, aux_logits=auxiliary, init_weights=False
    )
    torch.save(module.state_dict(), tmp_path / "w.pth")
    assert load_classifier("googlenet", weights=tmp_path / "w.pth", size=(64, 64)).num_classes == 4


@pytest.mark.filterwarnings("error")
def test_googlenet_is_built_without_its_warning() -> None:
    load_classifier("googlenet", weights="random", size=(64, 64))


def test_num_classes_that_contradict_the_file_are_refused(tmp_path: Path) -> None:
    module = import_torchvision().models.squeezenet1_1(num_classes=7)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ClassifierError, match=r"num_classes=5, but .*w\.pth has 7 classes"):
        load_classifier("squeezenet1_1", weights=tmp_path / "w.pth", num_classes=5)


def test_a_file_of_another_architecture_names_both(tmp_path: Path) -> None:
    torch.save(Tiny().state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth does not fit ResNet: 102 of 122 keys missing"):
        load_classifier("resnet18", weights=tmp_path / "w.pth")


def test_published_weights_that_cannot_be_fetched_say_how_to_give_a_file(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.WARNING, "xai_core"),
        pytest.raises(WeightsError, match=r"resnet18 IMAGENET1K_V1 \(https://.*weights=PATH"),
    ):
        load_classifier("resnet18")
    (line,) = caplog.messages
    assert line.startswith(
        "fetching weights: resnet18 IMAGENET1K_V1 from download.pytorch.org, 45 MB"
    )
    assert line.endswith("to stay offline give a file with weights=PATH")


def test_published_weights_in_torchs_cache_are_used_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "hub/checkpoints"
    cache.mkdir(parents=True)
    module = import_torchvision().models.squeezenet1_1()
    torch.save(module.state_dict(), cache / "squeezenet1_1-b8a52dc0.pth")
    classifier = load_classifier("squeezenet1_1", size=(64, 64))
    assert classifier.num_classes == 1000
    assert caplog.messages == []


def test_published_weights_are_fetched_to_torchs_cache_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_torchvision().models.squeezenet1_1()
    asked = []

    def fetch(url: str, to: str, *, hash_prefix: str, progress: bool) -> None:
        asked.append((url, hash_prefix, progress))
        torch.save(module.state_dict(), to)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    load_classifier("squeezenet1_1", weights="SqueezeNet1_1_Weights.IMAGENET1K_V1")
    url = "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    assert asked == [(url, "b8a52dc0", False)]
    assert (tmp_path / "hub/checkpoints/squeezenet1_1-b8a52dc0.pth").is_file()


def test_weights_of_a_feature_extractor_are_refused() -> None:
    with pytest.raises(ClassifierError, match="IMAGENET1K_FEATURES are of a feature extractor"):
        load_classifier("vgg16", weights="IMAGENET1K_FEATURES")


def test_other_num_classes_than_the_published_weights_have_are_refused_before_fetching() -> None:
    with pytest.raises(ClassifierError, match="num_classes=5, but the weights IMAGENET1K_V1 has"):
        load_classifier("resnet18", num_classes=5)


def test_a_mistyped_name_of_weights_gets_the_nearest() -> None:
    with pytest.raises(WeightsError, match="did you mean 'IMAGENET1K_V1'"):
        load_classifier("resnet50", weights="IMAGENET1KV1")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("quantized_resnet18", "a quantised model"),
        ("fcn_resnet50", "a segmentation model"),
        ("ssd300_vgg16", "a detection model"),
        ("r3d_18", "a video model"),
        ("raft_small", "an optical flow model"),
    ],
)
def test_models_for_other_tasks_are_refused_by_their_task(name: str, what: str) -> None:
    with pytest.raises(ClassifierError, match=f"'{name}' is {what}"):
        load_classifier(name, weights="random")


def test_an_unknown_name_gets_the_nearest_and_the_other_forms() -> None:
    with pytest.raises(ClassifierError) as raised:
        load_classifier("densnet121")
    assert "did you mean 'densenet121'" in str(raised.value)
    assert "'timm:NAME', or 'package.module:function'" in str(raised.value)


def test_a_weights_file_in_place_of_a_model_is_explained() -> None:
    with pytest.raises(ClassifierError, match="looks like a file of weights"):
        load_classifier("runs/best.pth")


# --- presets ---


@pytest.mark.parametrize(
    ("name", "weights", "preset"),
    [
        ("resnet50", None, Preset((224, 224), 232, IMAGENET.mean, IMAGENET.std, "bilinear")),
        (
            "resnet50",
            "IMAGENET1K_V1",
            Preset((224, 224), 256, IMAGENET.mean, IMAGENET.std, "bilinear"),
        ),
        (
            "efficientnet_v2_l",
            None,
            Preset((480, 480), 480, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic"),
        ),
        ("inception_v3", "w.pth", Preset((299, 299), 342, IMAGENET.mean, IMAGENET.std, "bilinear")),
        ("demo", None, Preset((64, 64), None, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear")),
    ],
)
def test_a_preset_is_that_of_the_published_weights(
    name: str, weights: str | None, preset: Preset
) -> None:
    assert preset_of(name, weights=weights) == preset


def test_a_function_has_no_preset() -> None:
    with pytest.raises(ClassifierError, match="give size and normalization"):
        preset_of("package.module:function")


# --- timm ---


def test_timm_without_the_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"pytest-xai\[timm\]"):
        load_classifier("timm:resnet18")


def test_timm_models_bring_their_preset_and_read_files(tmp_path: Path) -> None:
    import_torchvision()
    timm = pytest.importorskip("timm")
    classifier = load_classifier("timm:test_vit.r160_in1k", weights="random")
    assert (classifier.num_classes, classifier.size) == (1000, (160, 160))
    module = timm.create_model("test_vit", num_classes=6)
    safetensors.torch.save_file(module.state_dict(), tmp_path / "w.safetensors")
    tuned = load_classifier("timm:test_vit", weights=tmp_path / "w.safetensors")
    assert (tuned.num_classes, tuned.mean) == (6, (0.5, 0.5, 0.5))
    assert preset_of("timm:test_vit").resize == 168


def test_timm_weights_that_cannot_be_fetched_say_how_to_give_a_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import_torchvision()
    timm = pytest.importorskip("timm")

    def unreachable(*_args: object, **_options: object) -> None:
        raise OSError("the network is unreachable")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(WeightsError, match=r"timm:test_vit could not be fetched.*weights=PATH"):
        load_classifier("timm:test_vit")
    assert "from huggingface.co" in caplog.text


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnet1O1", "unknown timm model 'resnet1O1'"),
        ("timm:resnet18.a9_in1k", r"unknown weights .*resnet18\.a1_in1k"),
        ("timm:hf-hub:somebody/model", "unknown timm model"),
        ("timm:vit_small_patch16_224.dino", "no published weights with classes"),
    ],
)
def test_timm_names_that_do_not_give_a_classifier_are_refused(spec: str, message: str) -> None:
    import_torchvision()
    pytest.importorskip("timm")
    with pytest.raises(ClassifierError, match=message):
        load_classifier(spec)


# --- demo ---


@pytest.mark.parametrize("name", ["demo", "demo-shortcut"])
def test_the_demo_needs_nothing(name: str) -> None:
    classifier = load_classifier(name)
    assert (classifier.name, classifier.size) == (name, (64, 64))


def test_the_demo_takes_no_weights() -> None:
    with pytest.raises(ClassifierError, match="comes with its weights"):
        load_classifier("demo", weights="random")


# --- functions ---


def test_a_functions_module_becomes_a_classifier(factories: Callable[[str], str]) -> None:
    shop = factories("def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))")
    classifier = load_classifier(f"{shop}:build", normalization="none", size=(8, 8))
    assert (classifier.name, classifier.num_classes) == ("shop:build", 4)
    assert classifier.mean == (0, 0, 0)


def test_a_functions_random_module_depends_on_the_seed_alone(
    factories: Callable[[str], str],
) -> None:
    shop = factories("def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))")
    made = [
        load_classifier(f"{shop}:build", normalization="none", size=(8, 8), seed=seed).fingerprint
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2]


def test_a_function_may_return_a_classifier(factories: Callable[[str], str]) -> None:
    shop = factories(
        "from xai_core.classifier.loading import load_classifier\n"
        "made = load_classifier('demo')\n"
        "def build():\n    return made"
    )
    classifier = load_classifier(f"{shop}:build")
    assert classifier is sys.modules["shop"].made
    with pytest.raises(ClassifierError, match="cannot be given size"):
        load_classifier(f"{shop}:build", size=(8, 8))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("absent_package.models:build", "there is no module 'absent_package'.*pythonpath"),
        ("shop.deeper:build", r"there is no module 'shop\.deeper'"),
        ("shop:bulid", "shop has no 'bulid'; did you mean 'build'"),
        ("shop:number", "is a int; expected a function"),
        ("shop:ready", "is a Linear; expected a function"),
        ("shop:needy", "called without arguments, raised TypeError"),
        ("shop:text", "returned a str"),
        ("shop:", "expected 'package.module:function'"),
        ("C:\\models\\net.py", "expected 'package.module:function'"),
        ("../shop:build", "expected 'package.module:function'"),
    ],
)
def test_a_function_that_gives_no_module_is_refused_with_the_reason(
    spec: str, message: str, factories: Callable[[str], str]
) -> None:
    factories(
        "number = 3\nready = nn.Linear(2, 2)\n"
        "def build():\n    return nn.Linear(2, 2)\n"
        "def needy(argument):\n    return nn.Linear(2, 2)\n"
        "def text():\n    return 'resnet18'\n"
    )
    with pytest.raises(ClassifierError, match=message):
        load_classifier(spec, normalization="none")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import absent_dependency", "importing shop needs 'absent_dependency'"),
        ("1 / 0", "importing shop raised ZeroDivisionError"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(
    source: str, message: str, factories: Callable[[str], str]
) -> None:
    shop = factories(source)
    with pytest.raises(ClassifierError, match=message):
        load_classifier(f"{shop}:build", normalization="none")


# --- in hand ---


def test_a_module_in_hand_needs_its_normalization_said() -> None:
    with pytest.raises(ClassifierError, match=r"'imagenet', 'none' .*Normalization\(mean, std\)"):
        load_classifier(Tiny())


def test_a_module_in_hand_becomes_a_classifier() -> None:
    normalization = Normalization((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    classifier = load_classifier(Tiny(), normalization=normalization, name="mine")
    assert (classifier.name, classifier.size) == ("mine", (224, 224))
    assert classifier.mean == (0.1, 0.2, 0.3)


def test_weights_for_a_module_in_hand_do_not_change_it(tmp_path: Path) -> None:
    module, other = Tiny(), Tiny()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    torch.save(other.state_dict(), tmp_path / "w.pth")
    given = load_classifier(module, weights=tmp_path / "w.pth", normalization="none")
    assert given.fingerprint == load_classifier(other, normalization="none").fingerprint
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())


@pytest.mark.parametrize("extra", [{"weights": "random"}, {"num_classes": 3}])
def test_a_module_in_hand_takes_no_other_initialisation(extra: dict[str, object]) -> None:
    with pytest.raises(ClassifierError, match="are for architectures by name"):
        load_classifier(Tiny(), normalization="none", **extra)


def test_a_classifier_in_hand_is_returned_as_it_is() -> None:
    classifier = load_classifier("demo")
    assert isinstance(classifier, Classifier)
    assert load_classifier(classifier) is classifier
    with pytest.raises(ClassifierError, match="it cannot be given batch_size, name"):
        load_classifier(classifier, batch_size=3, name="other")


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module whose functions return classifiers; one of them will not be renamed."""
    code = (
        "from xai_core import load_classifier\n"
        "from xai_core.classifier import TorchClassifier\n"
        "class Fixed(TorchClassifier):\n"
        "    name = property(lambda self: 'fixed', lambda self, name: check(name))\n"
        "def check(name):\n"
        "    if name != 'fixed':\n"
        "        raise AttributeError(name)\n"
        "def build():\n"
        "    return load_classifier('demo')\n"
        "def fixed():\n"
        "    from torch import nn\n"
        "    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "    plain = {'mean': (0, 0, 0), 'std': (1, 1, 1)}\n"
        "    return Fixed(net, name='fixed', size=(8, 8), **plain)\n"
    )
    (tmp_path / "ready_made.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return "ready_made"


def test_a_classifier_of_a_function_takes_the_name_that_it_is_asked_for_by(ready: str) -> None:
    classifier = load_classifier(f"{ready}:build", name="mine")
    assert (classifier.name, classifier.num_classes) == ("mine", 6)
    assert load_classifier(f"{ready}:build").name == "demo"
    with pytest.raises(ClassifierError, match=r"it cannot be given batch_size$"):
        load_classifier(f"{ready}:build", name="mine", batch_size=3)


def test_a_classifier_that_keeps_its_name_is_refused_under_another(ready: str) -> None:
    assert load_classifier(f"{ready}:fixed", name="fixed").name == "fixed"
    with pytest.raises(ClassifierError, match="called 'fixed' is asked for as 'mine', and its"):
        load_classifier(f"{ready}:fixed", name="mine")


def test_anything_else_is_refused_by_its_type() -> None:
    with pytest.raises(ClassifierError, match="got int"):
        load_classifier(3)  # type: ignore[arg-type]


# --- arguments ---


def test_normalization_of_a_named_model_can_be_changed() -> None:
    classifier = load_classifier(
        "squeezenet1_1", weights="random", size=(64, 64), normalization="none"
    )
    assert isinstance(classifier, TorchClassifier)
    assert (classifier.mean, classifier.std) == ((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), "divide values for the 0-255 scale by 255"),
        ((0.5, 0.5, 0.5), (0.0, 1.0, 1.0), "std must be above 0"),
        ((0.5,), (1.0, 1.0, 1.0), "mean must be three numbers"),
        ((0.5, 0.5, 0.5), (1.0, 1.0, float("nan")), "std must be three numbers"),
    ],
)
def test_a_normalization_out_of_range_is_refused(
    mean: tuple[float, float, float], std: tuple[float, float, float], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        Normalization(mean, std)


def test_an_unknown_normalization_is_refused() -> None:
    with pytest.raises(ClassifierError, match="expected 'imagenet', 'none' or a Normalization"):
        load_classifier(Tiny(), normalization="caffe")  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cuda:", "meta", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(ClassifierError, match=r"device .*cpu"):
        load_classifier("demo", device=device)


def test_auto_takes_a_device_that_works() -> None:
    classifier = load_classifier("demo", device="auto")
    assert torch.isfinite(classifier.scores(image())).all()


@pytest.mark.parametrize("size", [(0, 5), (224,)])
def test_a_size_that_is_none_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ClassifierError, match=r"size must be \(height, width\)"):
        load_classifier("demo", size=size)


# --- real weights ---


@pytest.mark.real
@pytest.mark.skipif(not REAL_WEIGHTS.is_dir(), reason=f"no weights at {REAL_WEIGHTS}")
@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_real_weights_load(name: str) -> None:
    classifier = load_classifier(name, weights=REAL_WEIGHTS / f"{name}.safetensors")
    assert classifier.num_classes == 1000
    assert torch.isfinite(classifier.logits(image(224))).all()
