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
# # When to believe a picture
#
# A translated image looks plausible by design. That says nothing about whether it is right. You will see four ways to
# find out, and one picture that must not be believed. The cells are simulated and come with the program. All of it
# takes less than two minutes on one processor core.

# %%
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from napari_pix2pix import Pix2Pix
from napari_pix2pix.sample_data import simulate_cells

learnt = simulate_cells(768, 768, seed=0)
model = Pix2Pix.train(
    learnt.source,
    learnt.target,
    out="run",
    axes="YX",
    target_axes="CYX",
    minutes=1,
    validation=0.25,
    augmentation={"flips": "none"},
    overwrite=True,
)

# %% [markdown]
# ## 1. Scores of what was held out
#
# A quarter of the image, a band at its end, was never learnt from. The model was scored on it while it was trained, and
# the best state was kept. Errors are given for values that run from -1 to 1.

# %%
print(dict(model.metrics))

# %% [markdown]
# ## 2. Scores of other days
#
# The band is of the same image, so it is too easy. Judge on images of another day, instrument and donor. Here are four
# other fields. The mean hides how much they differ, so look at each; and compare with the best image of a single value.


# %%
def report(title, fields):
    result = model.evaluate([f.source for f in fields], [f.target for f in fields], axes="YX", target_axes="CYX")
    print(f"{title}: SSIM {result.mean.ssim:.2f}, of the best constant {result.constant.ssim:.2f}")
    print("  each:", ", ".join(f"{scores.ssim:.2f}" for _, scores in result.images))


others = [simulate_cells(512, 512, seed=seed) for seed in (4, 6, 8, 13)]
report("other fields", others)

# %% [markdown]
# ## 3. Images unlike those of the training
#
# Another camera gives half the brightness. The cells are the same, and the scores fall. When values lie where the model
# has never seen any, a warning says so; do not pass it by. The program cannot notice everything.

# %%
dimmed = [type(field)(field.source // 2, field.target) for field in others]
report("half the brightness", dimmed)

# %% [markdown]
# ## 4. How far a pixel may be from the truth
#
# The model has an *error map*: for each pixel a half-width. In images like the held-out ones, the true value lies
# within it in about 90 % of the pixels. Here it is tried on the other fields, whose true values are known. The share
# differs from image to image, so take it as a rule and not as a promise.

# %%
for field in others:
    wrong_by = np.abs(model.translate(field.source, axes="YX").astype(float) - field.target)
    within = wrong_by <= model.error_map(field.source, axes="YX")
    print(f"within the half-width: {within.mean():.0%}")

# %% [markdown]
# ## A picture that must not be believed
#
# Dust on the glass, and not one cell. The network makes nuclei of it all the same, because it has only ever seen cells.
# Left the dust, right the nuclei that are predicted of it.

# %%
rng = np.random.default_rng(0)
specks = gaussian_filter((rng.random((256, 256)) > 0.9993).astype(np.float32), 3.5) * 60
shade = np.zeros_like(specks)
shade[1:, 1:] = specks[1:, 1:] - specks[:-1, :-1]  # as the microscope shows height
dust = (1500 + 3800 * shade + rng.normal(0, 15, shade.shape)).clip(0).astype(np.uint16)
invented = model.translate(dust, axes="YX")[0]


def grey(plane, like):
    low, high = np.percentile(like, (0.5, 99.8))
    return (np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8)


Image.fromarray(np.hstack([grey(dust, learnt.source), grey(invented, learnt.target[0])]))

# %% [markdown]
# The range of values fits, and the picture looks convincing. But the model knows what its training images look like,
# and says which share of another image is unlike them: little of a field of cells, much of the dust. Where it is much,
# `translate` warns. It looks at the source alone, and does not notice everything.

# %%
for title, image in (("another field", others[0].source), ("half the brightness", dimmed[0].source), ("dust", dust)):
    print(f"{title}: {model.novelty(image, axes='YX').share:.0%} is unlike the training images")

# %% [markdown]
# ## What to take along
#
# - Hold out whole images: another day, instrument and donor. Decide which before you train.
# - A model that is not clearly better than the best constant image has learnt nothing.
# - Look at the worst image, not at the mean.
# - Read the warnings. Use the model on images like those that it has learnt from.
# - No score says whether *this* cell is right. What you publish, measure again on real images, at least in part.
