package dev

import (
	"fmt"
	"io"
	"strings"
)

const (
	prompt = "> "

	up         = "\x1b[%dA" // lines
	eraseBelow = "\x1b[J"
	eraseLine  = "\x1b[K"
	saveCursor = "\x1b7"
	backToSave = "\x1b8"
)

// screen shows the members. On a terminal they stand in a block that is redrawn in place, above a prompt; what is said
// scrolls away above the block:
//
//	what was said
//	NAME  PID   STATE ...     ◄─┐
//	m1    4711  leader          │ height lines
//	m2    4712  follower      ◄─┘
//	> kill m2                   the terminal echoes what is typed
//
// Elsewhere every change is a line. A screen belongs to one goroutine.
type screen struct {
	out io.Writer
	// width of the terminal in characters; nil: out is none.
	width func() int

	block  []string // as it was last drawn
	height int      // lines between its top and the cursor's line; 0: nothing is drawn
	keys   map[string]string
}

func newScreen(out io.Writer, width func() int) *screen {
	return &screen{out: out, width: width, keys: map[string]string{}}
}

// say prints text, which may have several lines, for good.
func (s *screen) say(text string) {
	if s.width == nil {
		fmt.Fprintln(s.out, text)
		return
	}
	fmt.Fprint(s.out, s.toTop()+eraseBelow+text+"\n")
	s.height = 0
	s.draw()
}

// typed tells that a line was typed: the terminal has moved the cursor below the prompt. The line is kept above the block.
func (s *screen) typed(line string) {
	if s.width == nil || s.height == 0 {
		return
	}
	s.height++
	s.say(prompt + line)
}

// show shows the members as they are now.
func (s *screen) show(rows []row) {
	if s.width == nil {
		s.print(rows, false)
		return
	}
	s.block = table(rows)
	if s.height == 0 {
		s.draw()
		return
	}
	fmt.Fprint(s.out, saveCursor+s.toTop()+s.blockText()+backToSave)
}

// print writes a line for each member that has changed, or for all.
func (s *screen) print(rows []row, all bool) {
	for _, r := range rows {
		if key := r.key(); all || s.keys[r.name] != key {
			s.keys[r.name] = key
			s.say(r.sentence())
		}
	}
}

// close leaves the block as it is and the cursor below it.
func (s *screen) close() {
	if s.height > 0 {
		fmt.Fprint(s.out, s.toTop()+eraseBelow+s.blockText())
		s.height, s.block = 0, nil
	}
}

// toTop moves the cursor to the beginning of the block's first line.
func (s *screen) toTop() string {
	if s.height == 0 {
		return "\r"
	}
	return "\r" + fmt.Sprintf(up, s.height)
}

// draw writes block and prompt where the cursor is.
func (s *screen) draw() {
	if len(s.block) == 0 {
		return
	}
	fmt.Fprint(s.out, s.blockText()+prompt)
	s.height = len(s.block)
}

// blockText is the block's lines, none longer than the terminal is wide: a line that wraps would move all others.
func (s *screen) blockText() string {
	width := max(s.width(), 20)
	var b strings.Builder
	for _, line := range s.block {
		if letters := []rune(line); len(letters) >= width {
			line = string(letters[:width-1])
		}
		b.WriteString(line + eraseLine + "\n")
	}
	return b.String()
}
