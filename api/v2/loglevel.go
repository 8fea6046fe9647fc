package v2

import (
	"encoding/json"
	"net/http"
	"strings"

	"go.uber.org/zap/zapcore"
)

const logPath = "/config/local/log"

// logLevels are the levels that clients know, each by its name, its number or its letter, with the nearest that there is.
var logLevels = makeLogLevels(map[string]zapcore.Level{
	"CRITICAL C": zapcore.DPanicLevel, "ERROR 0 E": zapcore.ErrorLevel, "WARNING 1 W": zapcore.WarnLevel, "NOTICE 2 N": zapcore.InfoLevel,
	"INFO 3 I": zapcore.InfoLevel, "DEBUG 4 D": zapcore.DebugLevel, "TRACE 5 T": zapcore.DebugLevel,
})

func makeLogLevels(known map[string]zapcore.Level) map[string]zapcore.Level {
	levels := map[string]zapcore.Level{}
	for names, level := range known {
		for _, name := range strings.Fields(names) {
			levels[name] = level
		}
	}
	return levels
}

// logLevel changes the lowest level that this member logs, until it is started again.
//
// Source: v2 API specification, 11.6.
func (h *Handler) logLevel(w http.ResponseWriter, r *http.Request) {
	if h.o.SetLogLevel == nil {
		http.NotFound(w, r)
		return
	}
	if !allowed(w, r, http.MethodPut) {
		return
	}
	if h.o.Access != nil && !h.o.Access.isRoot(r) {
		writeMessage(w, http.StatusUnauthorized, insufficient)
		return
	}
	var in struct{ Level string }
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, memberBodyMax)).Decode(&in) != nil {
		writeMessage(w, http.StatusBadRequest, "Invalid json body")
		return
	}
	level, ok := logLevels[strings.ToUpper(in.Level)]
	if !ok {
		writeMessage(w, http.StatusBadRequest, "Invalid log level "+in.Level)
		return
	}
	h.o.SetLogLevel(level)
	w.WriteHeader(http.StatusNoContent)
}
