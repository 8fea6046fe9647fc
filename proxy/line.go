package proxy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"keelson/internal/logging"
)

const (
	exitFailure = 1
	exitUsage   = 2
)

// list is a flag of several values with commas between them.
type list []string

// Set implements flag.Value.
func (l *list) Set(text string) error {
	*l = nil
	for _, s := range strings.Split(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			*l = append(*l, s)
		}
	}
	return nil
}

// String implements flag.Value.
func (l *list) String() string { return strings.Join(*l, ",") }

// parse reads `start [flags]` into a set of flags; like etcd's, the line may have its word behind flags too. done: nothing is
// left to do, with the exit code.
func parse(set *flag.FlagSet, args []string, what string) (code int, done bool) {
	set.SetOutput(io.Discard)
	usage := func(w io.Writer) {
		fmt.Fprintf(w, "Usage: %s start [flags]\n\n%s\n\nFlags:\n", set.Name(), what)
		set.SetOutput(w)
		set.PrintDefaults()
		set.SetOutput(io.Discard)
	}
	err := set.Parse(args) // as far as the first word
	started := err == nil && set.NArg() > 0 && set.Arg(0) == "start"
	if started {
		err = set.Parse(set.Args()[1:])
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage(os.Stdout)
		return 0, true
	case err == nil && !started:
		usage(os.Stderr)
		return exitUsage, true
	case err == nil && set.NArg() > 0:
		err = fmt.Errorf("%q is not a valid flag", set.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitUsage, true
	}
	return 0, false
}

// newLogger logs as members do, to stderr.
func newLogger(debug bool) *zap.Logger {
	level := "info"
	if debug {
		level = "debug"
	}
	logger, _, err := logging.New(logging.Options{Kind: "zap", Level: level, Format: "json", Outputs: []string{"default"}})
	if err != nil {
		panic("proxy: the logger: " + err.Error())
	}
	return logger
}

// untilSignal runs f until it ends or a signal ends its context, and returns the exit code.
func untilSignal(logger *zap.Logger, f func(ctx context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := f(ctx); err != nil && ctx.Err() == nil {
		logger.Error("proxy ended", zap.Error(err))
		return exitFailure
	}
	return 0
}
