package datadir

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// damageName is the file that says what of a member must not be used any more.
const damageName = "DAMAGED"

// Part is a part of a member that damage is noted of.
type Part string

// Parts. A store can be fetched from another member; a log, with what the member has voted for, cannot.
const (
	Store Part = "store"
	Log   Part = "log"
)

// Damage is what NoteDamage has noted, if it has: the next start does not have to find out again. A log counts for more
// than a store.
func (d *Dir) Damage() (part Part, reason string, err error) {
	text, err := readFile(d.fs, d.path(damageName))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", "", nil
	case err != nil:
		return "", "", fmt.Errorf("data directory %s: %w", d.root, err)
	}
	first, rest, _ := strings.Cut(text, "\n")
	if first == string(Log) {
		return Log, strings.TrimSpace(rest), nil
	}
	return Store, strings.TrimSpace(rest), nil // whatever it says, it is there
}

// NoteDamage notes, durably, that a part is not to be used any more, and why. It may be called from any goroutine.
func (d *Dir) NoteDamage(part Part, reason string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if before, _, err := d.Damage(); err != nil || before == Log {
		return err
	}
	reason = strings.ReplaceAll(reason, "\n", " ")
	text := fmt.Sprintf("%s\n%s\n", part, reason[:min(len(reason), fileBytesMax/2)])
	return d.write(damageName, text)
}

// ForgetDamage removes the note: the damaged part has been replaced.
func (d *Dir) ForgetDamage() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.remove(damageName)
}
