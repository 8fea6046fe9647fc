package cli

import (
	"errors"
	"fmt"
	"io"
)

// Exit codes, as scripts written for etcdctl know them.
const (
	ExitSuccess       = 0
	ExitError         = 1   // the server refused, or the command line is wrong
	ExitBadConnection = 2   // no connection can be made or used
	ExitInvalidInput  = 3   // stdin is not what the command reads
	ExitBadFeature    = 4   // a format, order or level that does not exist
	ExitInterrupted   = 5   // the server ended it, or a snapshot failed
	ExitIO            = 6   // a file
	ExitBadArgs       = 128 // arguments
)

// Exit is an error that knows how the program ends.
type Exit struct {
	Code int
	// Err is printed after "Error: ". Nil: everything has been said already.
	Err error
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Err.Error()
}

func (e *Exit) Unwrap() error { return e.Err }

// Fail is an error that ends the program with a code.
func Fail(code int, format string, args ...any) error {
	return &Exit{Code: code, Err: fmt.Errorf(format, args...)}
}

// With ends the program with a code because of err; nil stays nil.
func With(code int, err error) error {
	if err == nil {
		return nil
	}
	var exit *Exit
	if errors.As(err, &exit) {
		return err
	}
	return &Exit{Code: code, Err: err}
}

// Silent ends the program with a code; everything has been said already.
func Silent(code int) error { return &Exit{Code: code} }

// Report prints err as programs for people do and returns the exit code; nil is success.
func Report(stderr io.Writer, err error) int {
	if err == nil {
		return ExitSuccess
	}
	exit := &Exit{Code: ExitError, Err: err}
	errors.As(err, &exit)
	if exit.Err != nil {
		fmt.Fprintln(stderr, "Error:", exit.Err)
	}
	return exit.Code
}
