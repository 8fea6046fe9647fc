package logging

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap/zapcore"
)

const journalSocket = "/run/systemd/journal/socket"

func checkJournal() error {
	if journal.Enabled() {
		return nil
	}
	conn, err := net.Dial("unixgram", journalSocket)
	if err == nil { // it has just come up, or there is no journal on this system at all
		conn.Close()
		err = errors.New("not enabled")
	}
	return fmt.Errorf("can't find journal (%w)", err)
}

// journalCore sends each entry, encoded as a line, to the systemd journal with the priority of its level.
type journalCore struct {
	zapcore.LevelEnabler
	encoder zapcore.Encoder
}

func (c journalCore) With(fields []zapcore.Field) zapcore.Core {
	encoder := c.encoder.Clone()
	for _, f := range fields {
		f.AddTo(encoder)
	}
	return journalCore{c.LevelEnabler, encoder}
}

func (c journalCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c journalCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	line, err := c.encoder.EncodeEntry(e, fields)
	if err != nil {
		return fmt.Errorf("logging: encode: %w", err)
	}
	defer line.Free()
	if err := journal.Send(strings.TrimSuffix(line.String(), "\n"), priority(e.Level), nil); err != nil {
		return fmt.Errorf("logging: journal: %w", err)
	}
	return nil
}

func (journalCore) Sync() error { return nil }

func priority(level zapcore.Level) journal.Priority {
	switch level {
	case zapcore.DebugLevel:
		return journal.PriDebug
	case zapcore.InfoLevel:
		return journal.PriInfo
	case zapcore.WarnLevel:
		return journal.PriWarning
	case zapcore.ErrorLevel:
		return journal.PriErr
	case zapcore.FatalLevel:
		return journal.PriEmerg
	}
	return journal.PriCrit
}
