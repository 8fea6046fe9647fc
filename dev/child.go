package dev

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// child is the process of a member. It is used by one goroutine.
type child struct {
	cmd     *exec.Cmd
	log     string // path of its log
	logFrom int64  // where this run's lines begin
}

// end is that a child is no more, and why.
type end struct {
	member *member
	state  *os.ProcessState
}

// startChild runs program with args. What it writes is appended to the file logPath. It reads lifeline, which ends when
// this process does.
//
// On Linux and FreeBSD the calling thread's end kills the child: the caller stays on one thread for as long as children
// are to live.
func startChild(program string, args []string, logPath string, lifeline *os.File) (*child, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = lifeline, log, log
	cmd.Env = environment(os.Environ())
	cmd.SysProcAttr = processAttributes()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd, logPath, info.Size()}, nil
}

// environment leaves out the settings of a member: a variable that names the same setting as a flag would be refused.
func environment(from []string) []string {
	var list []string
	for _, entry := range from {
		if !strings.HasPrefix(entry, "ETCD_") || strings.HasPrefix(entry, "ETCD_UNSUPPORTED_ARCH=") {
			list = append(list, entry)
		}
	}
	return list
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// wait returns when the process has ended.
func (c *child) wait() *os.ProcessState {
	c.cmd.Wait() // its error repeats the state
	return c.cmd.ProcessState
}

// signal tells the process something. That it has ended meanwhile is not an error: its end is reported anyway.
func (c *child) signal(s syscall.Signal) error {
	if err := c.cmd.Process.Signal(s); err != nil && err != os.ErrProcessDone {
		return fmt.Errorf("signal %v to process %d: %w", s, c.pid(), err)
	}
	return nil
}

// lastWordsMax bounds how much of the log's end is read to find them.
const lastWordsMax = 16 << 10

// lastWords is the error that the process wrote last of all; empty: it gave none.
func (c *child) lastWords() string {
	f, err := os.Open(c.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(c.logFrom, info.Size()-lastWordsMax)
	text, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return ""
	}
	return lastError(text)
}

// lastError is the message of the last line if it is of level fatal or panic, or the line itself if it is not a log line.
// Where the program was broken off by its runtime, it is the line that says why.
func lastError(text []byte) string {
	var last string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	var record struct{ Level, Msg, Error string }
	if json.Unmarshal([]byte(last), &record) != nil {
		return last
	}
	switch {
	case record.Level != "fatal" && record.Level != "panic":
		return ""
	case record.Error == "":
		return record.Msg
	}
	return record.Error
}
