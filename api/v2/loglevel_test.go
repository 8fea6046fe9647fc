package v2

import (
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"
)

func TestLogLevel(t *testing.T) {
	var set []zapcore.Level
	s := newService(t, func(o *Options) { o.SetLogLevel = func(l zapcore.Level) { set = append(set, l) } })
	for _, c := range []struct {
		method, body, want string
		level              zapcore.Level
	}{
		{"PUT", `{"Level":"DEBUG"}`, "204 -", zapcore.DebugLevel},
		{"PUT", `{"level":"warning"}`, "204 -", zapcore.WarnLevel},
		{"PUT", `{"Level":"E"} and more`, "204 -", zapcore.ErrorLevel},
		{"PUT", `{"Level":"5"}`, "204 -", zapcore.DebugLevel},
		{"PUT", `{"Level":"loud"}`, `400 - {"message":"Invalid log level loud"}`, zapcore.InvalidLevel},
		{"PUT", `{}`, `400 - {"message":"Invalid log level "}`, zapcore.InvalidLevel},
		{"PUT", `{`, `400 - {"message":"Invalid json body"}`, zapcore.InvalidLevel},
		{"PUT", "", `400 - {"message":"Invalid json body"}`, zapcore.InvalidLevel},
		{"GET", "", "405 - Method Not Allowed", zapcore.InvalidLevel},
	} {
		set = nil
		if got := strings.TrimSpace(s.ask(c.method, logPath, c.body)); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.body, got, c.want)
		}
		if want := c.level != zapcore.InvalidLevel; want != (len(set) == 1) || want && set[0] != c.level {
			t.Errorf("%s %s: %v is set, want %v", c.method, c.body, set, c.level)
		}
	}
	s.withUsers(t)
	if got := s.ask("PUT", logPath, `{"Level":"DEBUG"}`); !strings.HasPrefix(got, "401 ") {
		t.Errorf("by a guest: %s", got)
	}
	if got := newService(t).ask("PUT", logPath, `{"Level":"DEBUG"}`); !strings.HasPrefix(got, "404 ") {
		t.Errorf("without a level that can be changed: %s", got)
	}
}
