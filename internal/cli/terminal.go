package cli

import (
	"os"

	"golang.org/x/term"
)

// IsTerminal reports whether f is a terminal that understands colours and cursor movements.
func IsTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
}

// Colour is how something is painted on a terminal.
type Colour string

// The colours in use.
const (
	Red    Colour = "\x1b[31m"
	Green  Colour = "\x1b[32m"
	Yellow Colour = "\x1b[33m"
	Blue   Colour = "\x1b[34m"
	Dim    Colour = "\x1b[2m"
	Bold   Colour = "\x1b[1m"
)

// Palette paints text if it is wanted: on a terminal, unless NO_COLOR says otherwise.
type Palette struct{ on bool }

// PaletteFor decides for one output.
func PaletteFor(f any) Palette { return Palette{on: IsTerminal(f) && os.Getenv("NO_COLOR") == ""} }

// Paint returns text in a colour, or text.
func (p Palette) Paint(c Colour, text string) string {
	if !p.on || text == "" {
		return text
	}
	return string(c) + text + "\x1b[0m"
}
