// One image by several processes of Nextflow, each of which makes every N-th region:
//
//     nextflow run regions.nf --image /data/slide.tif --model /data/model.safetensors --out /data/slide.ome.zarr
//
// Paths are whole ones, on a file system that all processes share: each works in a folder of its own.
params.shards = 4

process shard {
    errorStrategy 'retry'
    maxRetries 2
    cpus 1
    memory '4 GB'

    input:
    val shard

    output:
    val shard

    script:
    """
    napari-pix2pix translate ${params.image} --model ${params.model} --out ${params.out} --shard ${shard}/${params.shards} --max-memory 2GB
    """
}

workflow {
    shard(Channel.of(1..params.shards))
}
