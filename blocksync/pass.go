package blocksync

// Range is a part of the disk, in bytes. A pass covers the whole chunks it touches.
type Range struct {
	Offset, Length int64
}

// Pass says what one run over the disk covers. Only the source names it.
type Pass struct {
	Number uint32  // larger than that of any earlier pass on the same lane
	Ranges []Range // what to compare; nil: the whole disk
	Final  bool    // the source does not change any more: Settings.Verify applies in full

	// Since, if not zero, says that the source has not changed since a pass over the
	// whole disk that succeeded with this root. If the destination has not either
	// (Settings.Holds), this pass ends at once: neither device is read.
	Since [32]byte

	// Secret keys the marks of this pass. It must be fresh and random,
	// so that a guest cannot make two blocks that look equal; zero: Send draws one.
	Secret [32]byte
}
