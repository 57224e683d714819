package bench

import (
	"xmig/blocksync"
)

// What an end is asked to do. Each order has one answer, those that say so two.
const (
	doServe   = "serve"   // start the server of the lanes; the answer names its port
	doReceive = "receive" // open lanes and write disks; first answer: tickets
	doSend    = "send"    // enter lanes and send disks
	doSink    = "sink"    // take bytes and drop them; first answer: where
	doPump    = "pump"    // send bytes there
	doDigest  = "digest"  // digest bytes, on one core
	doRead    = "read"    // read a file past the page cache
)

// order is one line from the measuring process to an end.
type order struct {
	Do       string   `json:"do"`
	Serve    Serving  `json:"serve"`
	Lanes    []Lane   `json:"lanes,omitempty"`
	Tickets  [][]byte `json:"tickets,omitempty"` // of the lanes, in order
	Settings Settings `json:"settings"`
	Floor    Floor    `json:"floor,omitempty"`
	Where    where    `json:"where"`
	Bytes    int64    `json:"bytes,omitempty"`
	Path     string   `json:"path,omitempty"`
}

// answer is one line back.
type answer struct {
	Error   string   `json:"error,omitempty"`
	Port    int      `json:"port,omitempty"`
	Tickets [][]byte `json:"tickets,omitempty"`
	Where   where    `json:"where"`
	Usage   Usage    `json:"usage"`
	Disks   []Disk   `json:"disks,omitempty"`
}

// where is what a pump needs to reach its sink.
type where struct {
	Address     string `json:"address,omitempty"`
	Certificate []byte `json:"certificate,omitempty"` // DER; of TLS
	Ticket      []byte `json:"ticket,omitempty"`      // of a lane
}

// Serving is how the destination's lane server listens.
type Serving struct {
	Listen    string `json:"listen"`    // address
	Advertise string `json:"advertise"` // the address that the source is told
	Plain     bool   `json:"plain"`     // without TLS
}

// Lane is what travels over one lane: the disks of one VM.
type Lane struct {
	Job   string `json:"job"`
	Disks []Disk `json:"disks"`
}

// Disk is one disk of a lane, and what came of it.
type Disk struct {
	Name        string           `json:"name"`
	Source      string           `json:"source"`
	Destination string           `json:"destination"`
	Counts      blocksync.Counts `json:"counts"`
	Root        [32]byte         `json:"root"` // of the pass
	// Since is the root of an earlier pass after which nobody wrote to either
	// disk, as a worker knows by its trackers; zero: nobody knows.
	Since [32]byte `json:"since"`
}

// Settings are what may differ from a worker's defaults.
type Settings struct {
	Compress blocksync.Compress `json:"compress"`
	Verify   blocksync.Verify   `json:"verify"`
	Readers  int                `json:"readers"`
}

func (s Settings) sync(d Disk) blocksync.Settings {
	return blocksync.Settings{Compress: s.Compress, Verify: s.Verify, Readers: s.Readers,
		Holds: func(root [32]byte) bool { return root == d.Since }}
}
