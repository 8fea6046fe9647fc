package server

import (
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"keelson/api/ops"
	"keelson/server/mux"
)

const (
	filesMin      = 150              // open files below which no member can work
	filesInterval = 10 * time.Second // between two looks at how many are open
	filesWarn     = 80               // percent
	filesKept     = 1500             // for the store, the log and other members; of a small limit, half
	refusalsQuiet = time.Minute      // between two lines about refused clients
)

// files watches the files that the process has open, and those that say whose connections are to end. It counts the first. Connections are files: those of clients are bounded so that enough is
// left for the member's own and for those to other members.
type files struct {
	logger *zap.Logger
	planes planes // whose revoked connections are ended, too
	done   chan struct{}
	ended  sync.WaitGroup

	mu    sync.Mutex
	quiet time.Time // nothing is said about refused clients before
}

// watchFiles begins to watch.
//
// Errors: the process may open too few files.
func watchFiles(planes planes, logger *zap.Logger) (*files, error) {
	_, limit := ops.FileDescriptors()
	if limit > 0 && limit <= filesMin {
		return nil, fmt.Errorf("file descriptor limit of etcd process is too low; please set higher (it is %d, more than %d are needed)",
			limit, filesMin)
	}
	f := &files{logger: logger, planes: planes, done: make(chan struct{})}
	f.ended.Go(f.watch)
	return f, nil
}

func (f *files) watch() {
	ticker := time.NewTicker(filesInterval)
	defer ticker.Stop()
	for {
		f.noteUsed(ops.FileDescriptors())
		select {
		case <-ticker.C:
		case <-f.done:
			return
		}
		f.planes.clients.EndRevoked()
		f.planes.peers.EndRevoked()
	}
}

func (f *files) noteUsed(used, limit uint64) {
	if limit > 0 && used >= limit/100*filesWarn {
		f.logger.Warn("80% of file descriptors are used", zap.Uint64("used", used), zap.Uint64("limit", limit))
	}
}

func (f *files) stop() {
	close(f.done)
	f.ended.Wait()
}

// clientLimit is how many connections clients may have. Nil: it is not known how many files there may be.
func (f *files) clientLimit() *mux.Limit {
	_, limit := ops.FileDescriptors()
	if limit == 0 {
		return nil
	}
	return mux.NewLimit(clientConnections(limit), f.noteRefused)
}

func clientConnections(limit uint64) int64 { return int64(limit - min(limit/2, filesKept)) }

func (f *files) noteRefused(most int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Before(f.quiet) {
		return
	}
	f.quiet = now.Add(refusalsQuiet)
	f.logger.Warn("too many client connections; closing new ones until others end", zap.Int64("limit", most))
}
