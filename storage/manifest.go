package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"keelson/env"
)

// The manifest says which tables make up the database: a record for each change of them, synced one by one. Pebble takes the
// first record that it can't read for the end of the file and removes the tables that it has not heard of by then; a single
// bit would throw away what was flushed since. So the manifest is looked at before Pebble is let at it.
//
// A crash can leave the last record in part, nothing else: all before it were synced. It was torn if the file ends within it,
// or if one of the sectors that it is in holds nothing of it; and no record follows. Everything else is damage.
//
// The records that a manifest begins with are synced before the marker names it, so no crash leaves them in part. With the first
// manifest of a database that is one record. Each later one begins with two, what the tables were and how they changed: Pebble begins
// a manifest only to note a change, and the table of a flush may be named in that second record alone.
//
// A file is blocks of 32 KiB, a block is chunks, and a record is one chunk or several:
//
//	checksum  4  of what follows the length (CRC-32C, masked)
//	length    2  of the payload
//	kind      1  1: a whole record; 2, 3, 4: the first, a middle and the last part of one
//	payload
//
// A block's last bytes are zero if no header has room there.
const (
	manifestBlockBytes  = 32 << 10
	manifestHeaderBytes = 7
	sectorBytes         = 512 // a disk writes no less at once

	chunkFull, chunkFirst, chunkMiddle, chunkLast = 1, 2, 3, 4
)

// checkManifest looks at the manifest of the database in a directory, if there is one. Errors: ErrDamaged; those of the disk.
func checkManifest(fs env.FS, dir string) error {
	at, err := pebble.Peek(dir, fs)
	if errors.Is(err, os.ErrNotExist) || err == nil && !at.Exists {
		return nil // Open knows what to say
	}
	if err != nil {
		return err
	}
	data, err := readManifest(fs, at.ManifestFilename)
	if err != nil {
		return err
	}
	if offset, ok := soundManifest(data, recordsAtFirst(at.ManifestFilename)); !ok {
		return fmt.Errorf("%w: %s has a record at byte %d of %d that is not what was written, and not what a crash leaves",
			ErrDamaged, at.ManifestFilename, offset, len(data))
	}
	return nil
}

func readManifest(fs env.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, f)
	return b.Bytes(), errors.Join(err, f.Close())
}

// recordsAtFirst is how many records a manifest has when it begins to count.
func recordsAtFirst(name string) int {
	if strings.HasSuffix(name, "MANIFEST-000001") {
		return 1
	}
	return 2
}

// soundManifest reports whether a manifest holds what was written, up to a last record that a crash may have torn, which is none of
// the first so many; if not, where the first bad record begins.
func soundManifest(data []byte, atFirst int) (record int, ok bool) {
	whole := 0      // records so far
	within := false // a record
	for at := 0; at < len(data); {
		left := manifestBlockBytes - at%manifestBlockBytes
		if left < manifestHeaderBytes {
			if end := min(at+left, len(data)); !isZero(data[at:end]) {
				return at, false
			}
			at += left
			continue
		}
		if !within {
			record = at
		}
		kind, n := chunkAt(data, at)
		if begins := kind == chunkFull || kind == chunkFirst; n == 0 || begins == within {
			return record, whole >= atFirst && isTorn(data, at)
		}
		at += n
		if within = kind == chunkFirst || kind == chunkMiddle; !within {
			whole++
			record = at
		}
	}
	return record, whole >= atFirst
}

// chunkAt reads a chunk. n is its length with the header; 0: there is none.
func chunkAt(data []byte, at int) (kind byte, n int) {
	left := min(manifestBlockBytes-at%manifestBlockBytes, len(data)-at)
	if left < manifestHeaderBytes {
		return 0, 0
	}
	header := data[at : at+manifestHeaderBytes]
	n = manifestHeaderBytes + int(binary.LittleEndian.Uint16(header[4:]))
	if kind = header[6]; kind < chunkFull || kind > chunkLast || n > left {
		return 0, 0
	}
	if crc32.Checksum(data[at+6:at+n], castagnoli) != unmasked(header) {
		return 0, 0
	}
	return kind, n
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// unmasked is the checksum in a header, as it was computed.
func unmasked(header []byte) uint32 {
	c := binary.LittleEndian.Uint32(header) - 0xa282ead8
	return c<<15 | c>>17
}

// isTorn reports whether a crash can have left what stands from a place on where a chunk is due: the end of the last record.
func isTorn(data []byte, at int) bool {
	for i := at; i < len(data); i++ {
		if kind, n := chunkAt(data, i); n > 0 && (kind == chunkFull || kind == chunkFirst) {
			return false
		}
	}
	for i := at; i < len(data); {
		end := min(i-i%sectorBytes+sectorBytes, len(data))
		if isZero(data[i:end]) {
			return true
		}
		i = end
	}
	rest := data[at:]
	if len(rest) < manifestHeaderBytes {
		return true
	}
	if n := manifestHeaderBytes + int(binary.LittleEndian.Uint16(rest[4:])); n <= len(rest) || n > manifestBlockBytes-at%manifestBlockBytes {
		return false
	}
	// The file ends within the chunk; unless it is the length that is wrong.
	want, sum := unmasked(rest), uint32(0)
	for i := range rest[6:] {
		if sum = crc32.Update(sum, castagnoli, rest[6+i:7+i]); sum == want {
			return false
		}
	}
	return true
}

func isZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
