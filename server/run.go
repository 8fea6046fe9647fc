package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"go.uber.org/zap"

	"keelson/config"
	"keelson/internal/logging"
	"keelson/node"
	"keelson/server/bootstrap"
)

// Run is the main job of the program: it serves one member until a signal or a failure ends it, and returns the exit
// code. program is the name for usage texts, args are what follows it.
//
// After a signal the process ends by that same signal, so that whoever waits for it sees why, unless it is the first
// process of its machine.
func Run(program string, args []string) (code int) {
	c, notes, err := config.Load(program, args, config.Machine{
		Environ: os.Environ(), ReadFile: os.ReadFile, DefaultHost: config.DefaultHost,
	})
	if err != nil {
		return exit(err)
	}
	if err := config.Architecture(runtime.GOARCH, os.Environ()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	logger, closeLog, err := logging.New(c.Logging)
	if err != nil {
		return exit(&config.Exit{Code: 1, Notes: append(notes, config.Note{
			Level: zap.WarnLevel, Message: "failed to verify flags", Fields: []zap.Field{zap.Error(err)}})})
	}
	defer closeLog()
	logging.RouteGRPC(logger)
	logNotes(logger, notes)
	tuneRuntime()
	received, err := serveUntilDone(c, logger)
	if err != nil {
		what := "member ended"
		if _, ok := errors.AsType[*bootstrap.Error](err); ok {
			what = "discovery failed"
		}
		logger.WithOptions(zap.WithFatalHook(noExit{})).Fatal(what, zap.Error(err))
		return 1
	}
	if received != nil && os.Getpid() != 1 {
		closeLog()
		dieOf(received)
	}
	return 0
}

// serveUntilDone returns the signal that ended the member, or the error.
func serveUntilDone(c *config.Config, logger *zap.Logger) (os.Signal, error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type started struct {
		server *Server
		err    error
	}
	start := make(chan started, 1)
	go func() {
		s, err := Start(ctx, c, logger)
		start <- started{s, err}
	}()
	var s *Server
	select {
	case got := <-start:
		if errors.Is(got.err, errRemoved) {
			logRemoved(logger, c)
			return nil, nil
		}
		if got.err != nil {
			return nil, got.err
		}
		s = got.server
	case received := <-signals:
		logger.Info("received signal; shutting down", zap.String("signal", received.String()))
		cancel()
		got := <-start
		switch {
		case got.server != nil:
			return received, stopLogged(got.server, c, logger)
		case !errors.Is(got.err, context.Canceled) && !errors.Is(got.err, node.ErrCanceled):
			return received, got.err
		}
		return received, nil
	}
	notifyInit(logger)
	select {
	case received := <-signals:
		logger.Info("received signal; shutting down", zap.String("signal", received.String()))
		return received, stopLogged(s, c, logger)
	case <-s.Failed():
		return nil, s.Stop() // which says why
	case <-s.Removed():
		logRemoved(logger, c)
		s.linger()
		return nil, stopLogged(s, c, logger)
	}
}

func logRemoved(logger *zap.Logger, c *config.Config) {
	logger.Warn("server error", zap.Error(errRemoved))
	logger.Warn("data-dir used by this member must be removed", zap.String("data-dir", c.Member.DataDir))
}

func stopLogged(s *Server, c *config.Config, logger *zap.Logger) error {
	fields := []zap.Field{
		zap.String("name", c.Member.Name), zap.String("data-dir", c.Member.DataDir),
		zap.Strings("advertise-peer-urls", c.Cluster.AdvertisePeerURLs.Strings()),
		zap.Strings("advertise-client-urls", c.Cluster.AdvertiseClientURLs.Strings()),
	}
	logger.Info("closing etcd server", fields...)
	if err := s.Stop(); err != nil {
		return err
	}
	logger.Info("closed etcd server", fields...)
	return nil
}

// exit carries out how the configuration wants the process to end.
func exit(err error) int {
	e, ok := err.(*config.Exit)
	if !ok {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprint(os.Stdout, e.Stdout)
	fmt.Fprint(os.Stderr, e.Stderr)
	if len(e.Notes) > 0 {
		logNotes(logging.Default().WithOptions(zap.WithFatalHook(noExit{})), e.Notes)
	}
	return e.Code
}

func logNotes(logger *zap.Logger, notes []config.Note) {
	for _, n := range notes {
		logger.Log(n.Level, n.Message, n.Fields...)
	}
}

// dieOf ends the process by a signal, as if nobody had caught it.
func dieOf(s os.Signal) {
	signal.Reset(s)
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		p.Signal(s)
		select {} // until it arrives
	}
}
