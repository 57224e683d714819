// Package blocksync makes one block device or file equal to another over a
// [Lane], and carries byte streams over the same lanes.
//
// One call of [Send] at the source and one of [Receive] at the destination are
// one pass. Both ends read and digest at the same time:
//
//	source                                   destination
//	begin{geometry, ranges, secret}  ---->
//	                                 <----   digests, in order, in batches
//	zero | whole | coarse            ---->
//	                                 <----   fine (what differs, as 4 KiB digests)
//	pages                            ---->
//	                                 <----   refuse (did not fit its digest: once more, whole)
//	                                 <----   written (flushed up to here)
//	end{root}                        ---->
//	                                 <----   done{root}
//	verified{root}                   <--->   verified{root}   (full check only)
//
// A chunk whose digests are equal costs its 32 bytes and nothing else. One that
// is zero at the source costs a flag. Any other travels whole where the
// destination's chunk is zero or experience says that all of it differs;
// otherwise it is narrowed to its changed 4 KiB pages in one further round
// trip, of which many run at a time. The source keeps the chunk it has read
// until its pages are sent, so what is sent is always one consistent read.
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
// Every frame carries a seal: the BLAKE3-256 of its content bound to its head
// (kind, pass, index, length). Nothing is written before the whole chunk's
// digest has been checked, after decompression and after the overlay of its
// pages. A chunk that does not fit is asked for once more, whole; then the pass
// fails and names the offset. With [VerifyFull] a final pass reads both devices
// again after the last fsync.
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
// taken to be full of old data; only a hole of a file is known to be zero.
//
// # Memory
//
// At each end at most 64 chunks of buffers per pass, whatever the disk's size,
// and 33 bytes per chunk of the pass (its digest and its state): 33 KiB per GiB
// with 1 MiB chunks. The buffers are made when first needed.
//
// # What it does not know
//
// Jobs, NATS, Xen, snapshots and change trackers. Who may write to a device,
// and whether the guest is halted, is its caller's business.
package blocksync
