package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// An echo is a yardstick for a put of one client: a message over the loopback to a process that writes it into a file, has it on disk, and
// answers; or to one that sends it on to others which do so, does so itself, and answers when most have it. There is no protocol, no
// consensus, and nothing that is kept, so what it takes is nearly all the machine's.

const (
	echoWord     = "echo" // the first argument of a process that is one
	echoRequest  = 400    // bytes: a put of 256 on the wire
	echoReply    = 64     // bytes
	echoRounds   = 2000
	echoWarmUp   = 200
	echoPlaces   = 4096 // of messages in the file, which is there before: more than rounds
	echoPatience = 10 * time.Second
)

// echoTime is the median of what an echo of so many members takes, with their files in dir: of so many rounds, or of as many as there are in
// the time it is given.
func echoTime(ctx context.Context, dir string, members, rounds int) (_ time.Duration, err error) {
	dir, err = os.MkdirTemp(dir, "benchetcd-echo-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	var addresses []string
	for range members {
		// The last one is the one that sends on to those before.
		address, end, err := startEcho(ctx, dir, addresses)
		if err != nil {
			return 0, err
		}
		defer end()
		addresses = append(addresses, address)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addresses[members-1])
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	request, reply := make([]byte, echoRequest), make([]byte, echoReply)
	var took []time.Duration
	for i, deadline := 0, time.Now().Add(echoPatience); i < echoWarmUp+rounds && time.Now().Before(deadline); i++ {
		begin := time.Now()
		if _, err := conn.Write(request); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(conn, reply); err != nil {
			return 0, err
		}
		if i >= echoWarmUp {
			took = append(took, time.Since(begin))
		}
	}
	if len(took) == 0 {
		return 0, errors.New("no echo in time")
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// startEcho starts a process and returns where it listens.
func startEcho(ctx context.Context, dir string, others []string) (address string, end func(), err error) {
	program, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	c := exec.CommandContext(ctx, program, append([]string{echoWord, dir}, others...)...)
	c.Stderr = os.Stderr
	life, err := c.StdinPipe() // it ends when this does
	if err != nil {
		return "", nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := c.Start(); err != nil {
		return "", nil, err
	}
	end = func() {
		life.Close()
		c.Wait() // it is killed if it does not end
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		end()
		return "", nil, fmt.Errorf("an echo says nothing: %w", err)
	}
	return strings.TrimSpace(line), end, nil
}

// runEcho is the process, from its arguments on.
func runEcho(args []string) {
	if err := serveEcho(args[0], args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchetcd: echo:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveEcho is what it does: it serves one connection, until that or life ends.
func serveEcho(dir string, others []string, life io.Reader, out io.Writer) error {
	f, err := os.CreateTemp(dir, "member-")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, echoPlaces*echoRequest)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	e := &echo{file: f, had: make([]int, len(others)+1), news: make(chan echoNews, (len(others)+1)*echoPlaces)}
	for i, address := range others {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		e.others = append(e.others, conn)
		go e.hear(i, conn)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		io.Copy(io.Discard, life)
		os.Exit(0)
	}()
	if _, err := fmt.Fprintln(out, l.Addr()); err != nil {
		return err
	}
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	err = e.serve(conn)
	for _, end := range []error{io.EOF, syscall.ECONNRESET, syscall.EPIPE} { // who lags behind when it is over still answers
		if errors.Is(err, end) {
			return nil
		}
	}
	return err
}

// echo is what serves, with others or alone.
type echo struct {
	file   *os.File
	others []net.Conn
	had    []int // how many messages each has on disk; the last is its own
	news   chan echoNews
}

// echoNews is that a member has one more message on disk, or never will.
type echoNews struct {
	member int
	err    error
}

func (e *echo) serve(conn net.Conn) error {
	var mine chan []byte // what another goroutine is to write; alone this one does
	if len(e.others) > 0 {
		mine = make(chan []byte, echoPlaces)
		defer close(mine)
		go e.writeAll(mine)
	}
	reply := make([]byte, echoReply)
	for i := 0; ; i++ {
		request := make([]byte, echoRequest)
		if _, err := io.ReadFull(conn, request); err != nil {
			return err
		}
		for _, o := range e.others {
			if _, err := o.Write(request); err != nil {
				return err
			}
		}
		if mine != nil {
			mine <- request
		} else if err := e.write(i, request); err != nil {
			return err
		}
		if err := e.await(i + 1); err != nil {
			return err
		}
		if _, err := conn.Write(reply); err != nil {
			return err
		}
	}
}

// await returns when most have n messages.
func (e *echo) await(n int) error {
	if len(e.others) == 0 {
		return nil
	}
	for {
		most := slices.Sorted(slices.Values(e.had))
		if most[len(most)/2] >= n {
			return nil
		}
		news := <-e.news
		if news.err != nil {
			return news.err
		}
		e.had[news.member]++
	}
}

func (e *echo) writeAll(requests <-chan []byte) {
	i := 0
	for r := range requests {
		e.news <- echoNews{len(e.others), e.write(i, r)}
		i++
	}
}

func (e *echo) write(i int, request []byte) error {
	if _, err := e.file.WriteAt(request, int64(i%echoPlaces*echoRequest)); err != nil {
		return err
	}
	return syncData(e.file)
}

// hear takes the answers of another member.
func (e *echo) hear(member int, conn net.Conn) {
	reply := make([]byte, echoReply)
	for {
		_, err := io.ReadFull(conn, reply)
		e.news <- echoNews{member, err}
		if err != nil {
			return
		}
	}
}
