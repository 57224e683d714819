// Package blocksync makes one block device or file equal to another over a
// [Lane], and carries byte streams over the same lanes.
//
// One call of [Send] at the source and one of [Receive] at the destination are
// one pass. Both ends read and mark at the same time:
//
//	source                                   destination
//	begin{geometry, ranges, secret}  ---->
//	                                 <----   known (a filter of what other disks there hold; with an Index only)
//	                                 <----   marks of chunks, in order, in batches (or done at once, see Pass.Since)
//	same                             ---->   (the digest of a chunk that the filter knows)
//	                                 <----   taken (written from there; or not found: as if it had not been asked)
//	zero | whole | coarse            ---->   (coarse: marks of the chunk's 64 KiB blocks)
//	                                 <----   fine (which blocks differ, and marks of their 4 KiB pages)
//	pages                            ---->
//	                                 <----   refuse (did not fit its mark: once more, whole)
//	                                 <----   written (flushed up to here)
//	end{root}                        ---->
//	                                 <----   done{root}
//	verified{root}                   <--->   verified{root}   (full check only)
//
// A chunk whose marks are equal costs 16 bytes and nothing else. One that
// is zero at the source costs a flag, one that is zero at the destination its pages that
// are not. Any other is narrowed to its changed pages in one further round
// trip, of which many run at a time. The source keeps the chunk it has read
// until its pages are sent, so what is sent is always one consistent read. The
// destination reads only the blocks that differ a second time, and none where whole chunks
// differed lately: the source says so, and their pages are all sent.
//
// # Why it cannot hang
//
// The goroutine that receives at the source never waits for anything but the
// lane: what it hears goes into room that is set aside beforehand. So the
// destination can always send, hence always write, hence always receive, hence
// the source can always send.
//
// # Integrity
//
// A mark is a keyed universal hash (see mark) under a secret that is new for
// each pass. The mark of a chunk is made of those of its blocks.
// Every frame carries a seal: the BLAKE3-256 of its content (or of the
// content's mark) bound to its head (kind, pass, index, length). Nothing is
// written before the whole chunk's mark has been checked, after decompression and after
// the overlay of its pages. A chunk that does not fit is asked for once more, whole; then
// the pass fails and names the offset. With [VerifyFull] a final pass reads both devices
// again after the last fsync, and compares BLAKE3-256 digests of all content.
//
// # After a crash
//
// The destination's content is the only memory. Whatever was written is a
// chunk of the source as it was read; a later pass finds it equal and does not
// send it again. What was not acknowledged as durable may be lost with the
// host's power, and is then found and sent again. A destination is equal to the
// source only after a pass that returned without error and during which nobody
// wrote to the source; a stream is whole only if [ReceiveStream] says so.
//
// # Devices
//
// The page cache is bypassed (O_DIRECT), because a backend driver writes the
// guest's blocks around it. Where a file system refuses that, reads and writes
// are buffered, the cache is dropped before each pass and after each flush, and
// [Device.Direct] says so. Zeroes are written as holes (files) or by BLKZEROOUT
// (block devices), never by discard, which promises nothing. A block device is
// taken to be full of old data; only a hole of a file is known to be zero. One
// that looks blank is not read before it is written (blank.go).
//
// # Memory
//
// All passes at one end of this process share maxWorkers workers, of which each
// pass has at least one, three buffers of a chunk for each, made when first needed, and
// spareBytes of further buffers, of which each pass may have its share. Beside
// them a pass keeps 17 bytes per chunk (its mark and its state): 17 KiB per GiB
// with 1 MiB chunks, and the destination up to 1 MiB of marks of blocks.
//
// # What it does not know
//
// Jobs, NATS, Xen, snapshots and change trackers. Who may write to a device,
// and whether the guest is halted, is its caller's business.
package blocksync
