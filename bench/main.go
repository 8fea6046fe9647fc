package bench

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"strconv"
	"syscall"
	"time"
)

// Main runs the command line `bench LOAD [flags]` and returns the exit code: 0 done, 1 failed, 2 wrong usage.
func Main(args []string) int { return command(args, os.Stdout, os.Stderr) }

func command(args []string, stdout, stderr io.Writer) int {
	var options Options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	define(flags, &options)
	asJSON := flags.Bool("json", false, "print the result as one line of JSON")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: bench LOAD [flags]\nloads: %v\n", Ops)
		flags.PrintDefaults()
	}
	if len(args) == 0 {
		flags.Usage()
		return 2
	}
	options.Op = Op(args[0])
	if err := flags.Parse(args[1:]); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	text := stdout
	if *asJSON {
		text = io.Discard
	}
	result, err := Run(ctx, options, text)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	if *asJSON {
		line, err := json.Marshal(result)
		if err != nil {
			fmt.Fprintf(stderr, "bench: print: %v\n", err)
			return 1
		}
		fmt.Fprintf(stdout, "%s\n", line)
	}
	return 0
}

// define makes a flag of every field that names one, so that a setting is said once.
func define(flags *flag.FlagSet, options *Options) {
	value := reflect.ValueOf(options).Elem()
	for i := range value.NumField() {
		tag := value.Type().Field(i).Tag
		name, help := tag.Get("flag"), tag.Get("help")
		if name == "" {
			continue
		}
		byDefault := tag.Get("default")
		var err error
		switch field := value.Field(i).Addr().Interface().(type) {
		case *string:
			flags.StringVar(field, name, byDefault, help)
		case *int:
			var n int
			n, err = strconv.Atoi(byDefault)
			flags.IntVar(field, name, n, help)
		case *int64:
			var n int64
			n, err = strconv.ParseInt(byDefault, 10, 64)
			flags.Int64Var(field, name, n, help)
		case *uint64:
			var n uint64
			n, err = strconv.ParseUint(byDefault, 10, 64)
			flags.Uint64Var(field, name, n, help)
		case *bool:
			flags.BoolVar(field, name, byDefault == "true", help)
		case *time.Duration:
			var d time.Duration
			d, err = time.ParseDuration(byDefault)
			flags.DurationVar(field, name, d, help)
		default:
			panic(fmt.Sprintf("bench: no flag for a %T", field))
		}
		if err != nil {
			panic(fmt.Sprintf("bench: default of --%s: %v", name, err))
		}
	}
}

// Defaults returns the options as the command line has them when nothing is said.
func Defaults(op Op) Options {
	options := Options{}
	define(flag.NewFlagSet("bench", flag.ContinueOnError), &options)
	options.Op = op
	return options
}
