# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train and translate
#
# You will teach a network to predict fluorescence from a label-free image, and apply it to a larger field that it has
# never seen. The cells are simulated and come with the program. All of it takes less than two minutes on one processor
# core: enough to see how it works, not for a good model.

# %%
import numpy as np
from PIL import Image

from napari_pix2pix import Pix2Pix
from napari_pix2pix.sample_data import simulate_cells

# %% [markdown]
# ## The images
#
# A *pair* is a source, which the network sees, and a target, which it shall make. They must lie on each other pixel by
# pixel. Here the source is one plane (Y, X), and the target has two channels (C, Y, X): nuclei and cytoplasm.

# %%
learnt = simulate_cells(512, 512, seed=0)
unseen = simulate_cells(768, 768, seed=1)
print(learnt.source.shape, learnt.source.dtype, learnt.target.shape)


# %%
def grey(plane, like=None):
    """The plane (Y, X) as 8 bits, from the percentiles 0.5 and 99.8 of `like`, by default its own."""
    low, high = np.percentile(plane if like is None else like, (0.5, 99.8))
    return (np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8)


Image.fromarray(np.hstack([grey(learnt.source), *map(grey, learnt.target)]))

# %% [markdown]
# ## Train
#
# `axes` names the axes of the arrays. `minutes` says how long it may take; the size of the network follows from that
# and from your machine. The light of this microscope has a direction, so the images must not be mirrored while
# training. Everything about the run goes to the folder `run`: settings, scores, pictures and the model.

# %%
model = Pix2Pix.train(
    learnt.source,
    learnt.target,
    out="run",
    axes="YX",
    target_axes="CYX",
    minutes=1,
    augmentation={"flips": "none"},
    overwrite=True,
)

# %% [markdown]
# ## Translate
#
# The image may have any size. If it does not fit into memory it is cut into tiles, and the result is that of the whole
# image all the same.

# %%
predicted = model.translate(unseen.source, axes="YX")
print(predicted.shape, predicted.dtype)

# %% [markdown]
# From left to right: the source, the predicted nuclei, the real nuclei.

# %%
nuclei = unseen.target[0]
Image.fromarray(np.hstack([grey(unseen.source), grey(predicted[0], nuclei), grey(nuclei)]))

# %% [markdown]
# ## Judge
#
# The scores of the best image of a single value stand beside those of the model. A model that is not clearly better
# than that has learnt nothing.

# %%
result = model.evaluate(unseen.source, unseen.target, axes="YX", target_axes="CYX")
for name, scores in (("model", result.mean), ("best constant", result.constant)):
    print(f"{name}: mean absolute error {scores.mae:.0f}, SSIM {scores.ssim:.2f}")

# %% [markdown]
# ## Keep it
#
# `run/model.safetensors` is the model. It opens in napari, on the command line (`napari-pix2pix translate image.tif
# --model run/model.safetensors`), and here:

# %%
again = Pix2Pix.load("run/model.safetensors")
assert np.array_equal(again.translate(unseen.source, axes="YX"), predicted)
