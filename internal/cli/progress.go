package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Progress is a bar on a terminal for work that takes a while. Where there is no terminal it says nothing.
//
// Its methods may be called from several goroutines.
type Progress struct {
	mu    sync.Mutex
	w     io.Writer
	on    bool
	what  string
	total int64 // 0: unknown
	unit  func(int64) string
	done  int64
	begun time.Time
	drawn time.Time
}

// drawEvery spares slow terminals.
const drawEvery = 100 * time.Millisecond

// NewProgress draws on w if it is a terminal. total 0 says that nobody knows how much there is; unit writes an amount.
func NewProgress(w io.Writer, what string, total int64, unit func(int64) string) *Progress {
	return &Progress{w: w, on: IsTerminal(w), what: what, total: total, unit: unit, begun: time.Now()}
}

// Total says how much there is, once that is known.
func (p *Progress) Total(total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = total
}

// Add says that so much more is done.
func (p *Progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.on && time.Since(p.drawn) >= drawEvery {
		p.draw()
	}
}

// Write counts bytes, so that a copy can be watched by a tee.
func (p *Progress) Write(b []byte) (int, error) {
	p.Add(int64(len(b)))
	return len(b), nil
}

func (p *Progress) draw() {
	p.drawn = time.Now()
	text := fmt.Sprintf("\r\x1b[K%s  %s", p.what, p.unit(p.done))
	if p.total > 0 {
		const width = 30
		share := min(1, float64(p.done)/float64(p.total))
		full := int(share * width)
		text = fmt.Sprintf("\r\x1b[K%s  %s%s %3.0f%%  %s of %s", p.what, strings.Repeat("█", full), strings.Repeat("░", width-full),
			share*100, p.unit(p.done), p.unit(p.total))
	}
	if seconds := time.Since(p.begun).Seconds(); seconds > 1 {
		text += fmt.Sprintf("  %s/s", p.unit(int64(float64(p.done)/seconds)))
	}
	io.WriteString(p.w, text)
}

// Over is a writer for lines that appear in place of the bar, which goes on below them.
func (p *Progress) Over(w io.Writer) io.Writer { return lineWriter{p, w} }

type lineWriter struct {
	p *Progress
	w io.Writer
}

func (l lineWriter) Write(b []byte) (int, error) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.p.clear()
	return l.w.Write(b)
}

// clear removes the bar from the screen.
func (p *Progress) clear() {
	if p.on && !p.drawn.IsZero() {
		io.WriteString(p.w, "\r\x1b[K")
	}
}

// Finish clears the bar; it may be called more than once.
func (p *Progress) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.on = false
}
