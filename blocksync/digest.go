package blocksync

// coarseBlock and finePage are the two levels of sub-digests inside a chunk.
const (
	coarseBlock = 64 << 10
	finePage    = 4 << 10
)
