package logging

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	rotationSizeDefaultMiB = 100
	backupLayout           = "2006-01-02T15-04-05.000"
	compressedSuffix       = ".gz"
)

// rotating is a log file that is set aside under a name with a time stamp when it would grow too large:
//
//	member.log                               being written
//	member-2026-01-02T15-04-05.000.log       set aside then
//	member-2026-01-02T15-04-05.000.log.gz    the same, compressed
//
// Files that are too old or too many are removed after each rotation, by a goroutine that Close waits for.
type rotating struct {
	name     string
	rotation rotation
	maxBytes int64

	mu      sync.Mutex // guards what follows
	file    *os.File
	written int64 // bytes in file
	tidying sync.WaitGroup
}

func openRotating(name string, r rotation) (*rotating, error) {
	if r.MaxSizeMiB <= 0 {
		r.MaxSizeMiB = rotationSizeDefaultMiB
	}
	f := &rotating{name: name, rotation: r, maxBytes: int64(r.MaxSizeMiB) << 20}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("logging: %w", err)
	}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *rotating) open() error {
	file, err := os.OpenFile(f.name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, logFileMode)
	if err != nil {
		return fmt.Errorf("logging: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return fmt.Errorf("logging: %w", err)
	}
	f.file, f.written = file, info.Size()
	return nil
}

// Write appends one line, in a new file if the old one has no room for it.
func (f *rotating) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.written > 0 && f.written+int64(len(line)) > f.maxBytes {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := f.file.Write(line)
	f.written += int64(n)
	return n, err
}

// Sync makes what was written durable.
func (f *rotating) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Sync()
}

// Close waits for old files to be compressed and closes the current one.
func (f *rotating) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tidying.Wait()
	return f.file.Close()
}

// rotate sets the current file aside. If it can't be renamed, the old one goes on being written.
func (f *rotating) rotate() error {
	f.tidying.Wait()
	aside := f.freeName(time.Now())
	if err := os.Rename(f.name, aside); err != nil {
		return fmt.Errorf("logging: rotate: %w", err)
	}
	old := f.file
	if err := f.open(); err != nil {
		return err
	}
	old.Close()
	f.tidying.Go(func() { f.tidy(aside) })
	return nil
}

// freeName is the first backup name from now on that no file has, compressed or not.
func (f *rotating) freeName(now time.Time) string {
	for {
		name := f.backupName(now)
		if !exists(name) && !exists(name+compressedSuffix) {
			return name
		}
		now = now.Add(time.Millisecond)
	}
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func (f *rotating) backupName(now time.Time) string {
	if !f.rotation.LocalTime {
		now = now.UTC()
	}
	ext := filepath.Ext(f.name)
	return strings.TrimSuffix(f.name, ext) + "-" + now.Format(backupLayout) + ext
}

// tidy compresses the file just set aside and removes those that are too many or too old. What fails is left as it is
// and tried again after the next rotation: a full disk must not stop the log.
func (f *rotating) tidy(aside string) {
	if f.rotation.Compress {
		if err := compress(aside); err == nil {
			os.Remove(aside)
		}
	}
	backups := f.backups()
	if keep := f.rotation.MaxBackups; keep > 0 && len(backups) > keep {
		for _, name := range backups[:len(backups)-keep] {
			os.Remove(name)
		}
		backups = backups[len(backups)-keep:]
	}
	if f.rotation.MaxAgeDays <= 0 {
		return
	}
	oldest := f.backupName(time.Now().AddDate(0, 0, -f.rotation.MaxAgeDays))
	for _, name := range backups {
		if name < oldest {
			os.Remove(name)
		}
	}
}

// backups are the files set aside, oldest first.
func (f *rotating) backups() []string {
	ext := filepath.Ext(f.name)
	prefix := filepath.Base(strings.TrimSuffix(f.name, ext)) + "-"
	entries, err := os.ReadDir(filepath.Dir(f.name))
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		stamp, isBackup := strings.CutPrefix(strings.TrimSuffix(entry.Name(), compressedSuffix), prefix)
		if !isBackup {
			continue
		}
		if _, err := time.Parse(backupLayout, strings.TrimSuffix(stamp, ext)); err == nil {
			names = append(names, filepath.Join(filepath.Dir(f.name), entry.Name()))
		}
	}
	slices.Sort(names)
	return names
}

// compress writes name.gz beside name.
func compress(name string) error {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(name+compressedSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, logFileMode)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err == nil {
		err = z.Close()
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(out.Name())
	}
	return err
}
