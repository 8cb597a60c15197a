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
# # A map from aerial images
#
# You will learn a map from an aerial image as GeoTIFF, and make the map of the area beside it. The result lies where it
# belongs. The landscape is simulated, so that nothing has to be downloaded. All of it takes less than two minutes on
# one processor core.

# %%
import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from napari_pix2pix import Pix2Pix

# %% [markdown]
# ## A landscape
#
# Fields, woods and water, with a colour from the air and one on the map. Your own images would be GeoTIFFs already.

# %%
FROM_THE_AIR = np.array([[150, 140, 80], [50, 80, 45], [40, 60, 90]])
GRAIN = np.array([60, 120, 10])
ON_THE_MAP = np.array([[250, 240, 200], [170, 210, 160], [150, 190, 240]])


def landscape(size, seed):
    """An aerial image and its map, each (size, size, 3) with 8 bits."""
    rng = np.random.default_rng(seed)
    centres, kinds = rng.random((60, 2)) * size, rng.integers(0, 3, 60)
    ground = kinds[cKDTree(centres).query(np.indices((size, size)).reshape(2, -1).T)[1]].reshape(size, size)
    grain = gaussian_filter(rng.standard_normal((size, size)), 2) * GRAIN[ground]
    air = FROM_THE_AIR[ground] + grain[..., None] + rng.normal(0, 6, (size, size, 3))
    return np.clip(air, 0, 255).astype(np.uint8), ON_THE_MAP[ground].astype(np.uint8)


def write(path, pixels, east):
    height, width, bands = pixels.shape
    place = {"crs": "EPSG:32633", "transform": from_origin(east, 5_500_000, 0.5, 0.5)}
    with rasterio.open(path, "w", height=height, width=width, count=bands, dtype="uint8", **place) as file:
        file.write(np.moveaxis(pixels, -1, 0))


air, drawn = landscape(512, seed=0)
write("aerial.tif", air, east=400_000)
write("map.tif", drawn, east=400_000)
air_beside, drawn_beside = landscape(768, seed=1)
write("beside.tif", air_beside, east=400_256)
Image.fromarray(np.hstack([air, drawn]))

# %% [markdown]
# ## Train
#
# Both files say where they lie on the Earth. If they did not lie on each other, a warning would say so. The program
# sees that the map has three colours and nothing between them, and takes each as a class.

# %%
model = Pix2Pix.train("aerial.tif", "map.tif", out="run", minutes=1, overwrite=True)

# %% [markdown]
# ## Translate
#
# The file that is written is a cloud-optimised GeoTIFF with the place of its source.

# %%
model.translate("beside.tif", "beside_map.tif", overwrite=True)

with rasterio.open("beside.tif") as source, rasterio.open("beside_map.tif") as result:
    print(result.crs, result.bounds)
    assert result.crs == source.crs
    assert result.transform == source.transform
    made = np.moveaxis(result.read(), 0, -1)

# %% [markdown]
# From left to right: the aerial image, the map that was made, the real map.

# %%
Image.fromarray(np.hstack([air_beside, made, drawn_beside]))

# %% [markdown]
# The share of the area that has its right colour. Beside it what the most frequent kind of ground covers: so much would
# be right by guessing.

# %%
kinds = [np.abs(image[..., None, :].astype(int) - ON_THE_MAP).sum(-1).argmin(-1) for image in (made, drawn_beside)]
guessed = np.bincount(kinds[1].ravel()).max() / kinds[1].size
print(f"right: {np.mean(kinds[0] == kinds[1]):.1%}; by guessing: {guessed:.1%}")
