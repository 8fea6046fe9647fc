package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Table draws a box around rows: the header upper-case and centred, the cells to the right, as etcdctl's tables look.
func Table(w io.Writer, header []string, rows [][]string) error {
	widths := make([]int, len(header))
	for i, title := range header {
		widths[i] = width(title)
	}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], width(cell))
		}
	}
	var b strings.Builder
	rule(&b, widths, "┌", "┬", "┐")
	line(&b, header, widths, func(cell string, room int) (left, right int) {
		return room / 2, room - room/2
	}, strings.ToUpper)
	rule(&b, widths, "├", "┼", "┤")
	for _, row := range rows {
		line(&b, row, widths, func(cell string, room int) (left, right int) { return room, 0 }, func(s string) string { return s })
	}
	rule(&b, widths, "└", "┴", "┘")
	_, err := io.WriteString(w, b.String())
	return err
}

func rule(b *strings.Builder, widths []int, first, between, last string) {
	b.WriteString(first)
	for i, n := range widths {
		if i > 0 {
			b.WriteString(between)
		}
		b.WriteString(strings.Repeat("─", n+2))
	}
	b.WriteString(last + "\n")
}

// line draws one row; share says how the room that a cell leaves is split between its left and its right.
func line(b *strings.Builder, cells []string, widths []int, share func(cell string, room int) (left, right int), shape func(string) string) {
	for i, cell := range cells {
		left, right := share(cell, widths[i]-width(cell))
		fmt.Fprintf(b, "│ %s%s%s ", strings.Repeat(" ", left), shape(cell), strings.Repeat(" ", right))
	}
	b.WriteString("│\n")
}

// width is how many columns a terminal needs for s.
func width(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case r == utf8.RuneError || !unicode.IsControl(r) && !unicode.Is(unicode.Mn, r) && !isWide(r):
			n++
		case isWide(r):
			n += 2
		}
	}
	return n
}

// isWide reports the characters that take two columns: the East Asian blocks and the pictures.
func isWide(r rune) bool {
	return r >= 0x1100 && (r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 || r >= 0xf900 && r <= 0xfaff ||
		r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 || r >= 0xffe0 && r <= 0xffe6 || r >= 0x1f300 && r <= 0x1faff || r >= 0x20000 && r <= 0x3fffd)
}

// Columns aligns rows to the left with two spaces between columns, for people; paint colours a cell, or is nil.
func Columns(w io.Writer, rows [][]string, paint func(row, column int, cell string) string) error {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(cell))
		}
	}
	var b strings.Builder
	for y, row := range rows {
		for x, cell := range row {
			shown := cell
			if paint != nil {
				shown = paint(y, x, cell)
			}
			b.WriteString(shown)
			if x < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[x]-width(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}
