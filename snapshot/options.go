package snapshot

import (
	"time"

	"keelson/env"
)

const (
	// headerBytesMax bounds the header.
	headerBytesMax = 1 << 20
	// pieceBytesMax bounds a piece of a file or of the header, and with it the longest frame.
	pieceBytesMax = 256 << 10
	// filesMaxDefault is enough for a store of many terabytes.
	filesMaxDefault = 1 << 17

	stallDefault = 30 * time.Second
)

// Store names the store that a checkpoint was made of. Two files of the same name and store begin with the same bytes, so
// a directory that was replaced, or copied, needs another.
type Store [16]byte

// SendOptions says what Send sends, and how.
type SendOptions struct {
	FS    env.FS
	Clock env.Clock
	// Dir is the checkpoint. Nobody changes it while Send runs.
	Dir string
	// Store is whose checkpoint it is.
	Store Store
	// Header is for the receiver's caller, at most 1 MiB.
	Header []byte
	// BytesPerSecond limits what is sent. 0: no limit.
	BytesPerSecond int64
	// Stall ends the transfer when nothing was sent or received for so long. 0: 30 s.
	Stall time.Duration
	// Progress is told how many bytes of the files the receiver is known to have or was sent, of how many. May be nil.
	Progress func(done, total int64)
}

// ReceiveOptions says where Receive puts what it receives, and how much that may be.
type ReceiveOptions struct {
	FS    env.FS
	Clock env.Clock
	// Dir is where attempts are kept, each in a directory of its own. It belongs to this package alone.
	Dir string
	// FilesMax bounds the number of files. 0: 131072.
	FilesMax int
	// BytesMax bounds the sum of their sizes. 0: no bound.
	BytesMax int64
	// Accept looks at the offer before anything is written. Its error is the reason of the refusal. May be nil.
	Accept func(Offer) error
	// Stall ends the transfer when nothing was sent or received for so long. 0: 30 s.
	Stall time.Duration
	// Progress is told how many bytes of the files are there, of how many. May be nil.
	Progress func(done, total int64)
	// Synced is told how long each sync of a file took. May be nil.
	Synced func(took time.Duration)
}

// Offer is what a sender has to give.
type Offer struct {
	Store  Store
	Header []byte
	Files  int
	Bytes  int64
}

// Received is a snapshot that has come whole.
type Received struct {
	Offer
	// Dir holds the files, and nothing else. It belongs to the caller, who renames or removes it before the next Receive.
	Dir string
	// Resumed is how many of the bytes an earlier attempt had left.
	Resumed int64
}

func (o SendOptions) progress(done, total int64) {
	if o.Progress != nil {
		o.Progress(done, total)
	}
}

func (o ReceiveOptions) progress(done, total int64) {
	if o.Progress != nil {
		o.Progress(done, total)
	}
}

func (o ReceiveOptions) filesMax() int {
	if o.FilesMax == 0 {
		return filesMaxDefault
	}
	return o.FilesMax
}
