"""Models as packages of the BioImage Model Zoo, for Fiji, ilastik, QuPath and bioimageio.core."""
