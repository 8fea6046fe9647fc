package ops

import (
	"bytes"
	"encoding/json"
	"expvar"
	"fmt"
	"net/http"
	"os"
)

// vars answers /debug/vars: the runtime's variables and two of this member's. The latter are not published globally,
// because a process may run several members.
func (s *Surface) vars(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	_, limit := FileDescriptors()
	status, err := json.Marshal(s.raft())
	if err != nil {
		status = []byte("null")
	}
	var body bytes.Buffer
	fmt.Fprintf(&body, "{\n\"cmdline\": %s,\n", variable("cmdline"))
	fmt.Fprintf(&body, "\"file_descriptor_limit\": %d,\n", limit)
	fmt.Fprintf(&body, "\"memstats\": %s,\n", variable("memstats"))
	fmt.Fprintf(&body, "\"raft.status\": %s\n}\n", status)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Write(body.Bytes())
}

func variable(name string) string {
	if v := expvar.Get(name); v != nil {
		return v.String()
	}
	return "null"
}

// FileDescriptors counts the open files of this process and says how many it may open; 0: not known here.
func FileDescriptors() (used, limit uint64) {
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		used = uint64(len(entries))
	}
	return used, fileDescriptorLimit()
}
