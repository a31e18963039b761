"""The command line trains at sizes that are no square."""

from helpers import ten_classes

import mixer
from mixer.train import cli


def test_an_oblong_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "load_data", lambda name, **options: ten_classes())
    small = ["--dataset", "digits", "--num_steps", "2", "--warmup_steps", "1"]
    small += ["--train_batch_size", "8", "--device", "cpu", "--precision", "fp32"]
    where = ["--name", "oblong", "--output_dir", str(tmp_path), "--model_type", "Mixer-Nano_4"]
    assert cli.main([*where, *small, "--image_size", "16x64"]) == 0
    # 64 tokens, as many as those of 32 by 32 pixels.
    assert mixer.from_npz(tmp_path / "oblong" / "model.npz").config.image_hw == (16, 64)


def test_what_is_no_size_is_one_line(tmp_path, capsys):
    arguments = ["--name", "digits-1_2", "--output_dir", str(tmp_path), "--image_size", "16*64"]
    assert cli.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: image_size: expected pixels such as 224 or 16x64, found '16*64'"
    assert list(tmp_path.iterdir()) == []
