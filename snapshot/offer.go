package snapshot

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"keelson/env"
	"keelson/storage"
)

// file is one file of a checkpoint.
type file struct {
	name string
	size int64
}

// listCheckpoint returns the files of a checkpoint, by name.
func listCheckpoint(fs env.FS, dir string) (files []file, total int64, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, 0, err
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "LOCK" {
			continue // somebody has looked into it
		}
		if !storage.IsCheckpointFile(name) {
			return nil, 0, fmt.Errorf("%s holds %q, which is no file of a checkpoint", dir, name)
		}
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return nil, 0, err
		}
		files = append(files, file{name, info.Size()})
		total += info.Size()
	}
	return files, total, nil
}

// writeOffer writes the beginning of the sender's stream.
func writeOffer(w *frameWriter, o Offer, files []file) error {
	w.raw(prologue)
	begin := append(make([]byte, 0, 32), o.Store[:]...)
	begin = binary.LittleEndian.AppendUint32(begin, uint32(len(o.Header)))
	begin = binary.LittleEndian.AppendUint32(begin, uint32(len(files)))
	begin = binary.LittleEndian.AppendUint64(begin, uint64(o.Bytes))
	if err := w.frame(kindBegin, begin); err != nil {
		return err
	}
	for piece := range slices.Chunk(o.Header, pieceBytesMax) {
		if err := w.frame(kindHeader, piece); err != nil {
			return err
		}
	}
	var size [8]byte
	for _, f := range files {
		binary.LittleEndian.PutUint64(size[:], uint64(f.size))
		if err := w.frame(kindFile, size[:], []byte(f.name)); err != nil {
			return err
		}
	}
	if err := w.frame(kindOffered); err != nil {
		return err
	}
	return w.flush()
}

// offerReader reads what writeOffer has written, and trusts nothing of it.
type offerReader struct {
	frames   *frameReader
	filesMax int
	bytesMax int64 // 0: no bound

	offer Offer
	files []file
}

// Errors: ErrVersion, ErrGarbled, ErrLimit, and those of the stream.
func (r *offerReader) read() error {
	var found [5]byte
	if _, err := io.ReadFull(r.frames.r, found[:]); err != nil {
		return cutOff(err)
	}
	if found != [5]byte(prologue) {
		return fmt.Errorf("%w: the stream begins with %q, want %q", ErrVersion, found[:], prologue)
	}
	headerBytes, err := r.begin()
	if err != nil {
		return err
	}
	if err := r.header(headerBytes); err != nil {
		return err
	}
	for left := r.offer.Bytes; ; {
		if len(r.files) == r.offer.Files {
			if left != 0 {
				return fmt.Errorf("%w: the files have %d bytes less than offered", ErrGarbled, left)
			}
			_, err := r.frames.expect(kindOffered, 0)
			return err
		}
		f, err := r.file()
		if err != nil {
			return err
		}
		if f.size > left {
			return fmt.Errorf("%w: the files have more than the %d bytes offered", ErrGarbled, r.offer.Bytes)
		}
		left -= f.size
		r.files = append(r.files, f)
	}
}

// begin reads the first frame, and returns the length of the header.
func (r *offerReader) begin() (headerBytes uint32, err error) {
	b, err := r.frames.expect(kindBegin, 32)
	if err != nil {
		return 0, err
	}
	headerBytes = binary.LittleEndian.Uint32(b[16:])
	files, bytes := binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint64(b[24:])
	switch {
	case headerBytes > headerBytesMax:
		return 0, fmt.Errorf("%w: a header of %d bytes, at most %d are taken", ErrLimit, headerBytes, headerBytesMax)
	case int64(files) > int64(r.filesMax):
		return 0, fmt.Errorf("%w: %d files, at most %d are taken", ErrLimit, files, r.filesMax)
	case bytes > 1<<62 || r.bytesMax > 0 && int64(bytes) > r.bytesMax:
		return 0, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrLimit, bytes, r.bytesMax)
	}
	r.offer = Offer{Store: Store(b[:16]), Files: int(files), Bytes: int64(bytes)}
	return headerBytes, nil
}

func (r *offerReader) header(bytes uint32) error {
	for left := int(bytes); left > 0; {
		b, err := r.frames.expect(kindHeader, min(left, pieceBytesMax))
		if err != nil {
			return err
		}
		r.offer.Header = append(r.offer.Header, b...)
		left -= len(b)
	}
	return nil
}

func (r *offerReader) file() (file, error) {
	b, err := r.frames.expect(kindFile, -1)
	if err != nil {
		return file{}, err
	}
	if len(b) < 8 {
		return file{}, unexpected(kindFile, b)
	}
	f := file{name: string(b[8:]), size: int64(binary.LittleEndian.Uint64(b))}
	switch {
	case !storage.IsCheckpointFile(f.name):
		return file{}, fmt.Errorf("%w: %q is no file of a checkpoint", ErrGarbled, f.name)
	case f.size < 0:
		return file{}, fmt.Errorf("%w: a size of %d", ErrGarbled, f.size)
	case len(r.files) > 0 && f.name <= r.files[len(r.files)-1].name:
		return file{}, fmt.Errorf("%w: %q after %q", ErrGarbled, f.name, r.files[len(r.files)-1].name)
	}
	return f, nil
}
