package ctl

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"keelson/internal/cli"
)

// screen is what frames are drawn on, one in place of the other. On a terminal it is a second one beside what was on it before,
// without a cursor, and what is typed does not show; elsewhere frames follow each other.
//
// It belongs to one goroutine. A second one waits for keys until the program ends: nothing ends a read from a terminal.
type screen struct {
	out  io.Writer
	file *os.File // nil: no terminal
	in   *os.File
	old  *term.State // nil: keys are not read
	quit chan struct{}
}

// Orders to the terminal.
const (
	otherScreen = "\x1b[?1049h\x1b[?25l"
	firstScreen = "\x1b[?25h\x1b[?1049l"
	fromTheTop  = "\x1b[H"
	restOfLine  = "\x1b[K\r\n"
	restOfAll   = "\x1b[J"
)

// openScreen takes the terminal over, if there is one. Close it.
func openScreen(in io.Reader, out io.Writer) *screen {
	sc := &screen{out: out, quit: make(chan struct{})}
	if !cli.IsTerminal(out) {
		return sc
	}
	sc.file = out.(*os.File)
	io.WriteString(out, otherScreen)
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return sc
	}
	if old, err := term.MakeRaw(int(file.Fd())); err == nil {
		sc.in, sc.old = file, old
		go sc.keys()
	}
	return sc
}

// keys waits for q, or Ctrl-C, which comes as a byte now.
func (sc *screen) keys() {
	var b [1]byte
	for {
		n, err := sc.in.Read(b[:])
		if err != nil || n == 1 && strings.IndexByte("qQ\x03\x04", b[0]) >= 0 {
			close(sc.quit)
			return
		}
	}
}

// size is how much fits; 0, 0: there is no end.
func (sc *screen) size() (width, height int) {
	if sc.file == nil {
		return 0, 0
	}
	width, height, err := term.GetSize(int(sc.file.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// draw shows a frame. Lines beyond the lower edge are left out.
func (sc *screen) draw(frame string) {
	if sc.file == nil {
		io.WriteString(sc.out, frame+"\n")
		return
	}
	lines := strings.Split(strings.TrimRight(frame, "\n"), "\n")
	if _, height := sc.size(); height > 0 && len(lines) > height-1 {
		lines = lines[:height-1]
	}
	io.WriteString(sc.out, fromTheTop+strings.Join(lines, restOfLine)+restOfLine+restOfAll)
}

// Close gives the terminal back as it was.
func (sc *screen) Close() {
	if sc.old != nil {
		term.Restore(int(sc.in.Fd()), sc.old)
	}
	if sc.file != nil {
		io.WriteString(sc.out, firstScreen)
	}
}
