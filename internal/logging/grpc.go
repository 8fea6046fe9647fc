package logging

import (
	"fmt"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"
)

// RouteGRPC makes the gRPC library, and the gateway with it, log through logger. It must be called before the library
// is used.
//
// What the library calls an error is often a client that went away, so errors become warnings; everything below is for
// debugging.
func RouteGRPC(logger *zap.Logger) {
	const wrappers = 2 // frames between the library's caller and zap
	grpclog.SetLoggerV2(grpcLog{logger.Named("grpc").WithOptions(zap.AddCallerSkip(wrappers))})
}

type grpcLog struct{ log *zap.Logger }

func (l grpcLog) Info(args ...any)                    { l.log.Debug(fmt.Sprint(args...)) }
func (l grpcLog) Infoln(args ...any)                  { l.log.Debug(line(args)) }
func (l grpcLog) Infof(format string, args ...any)    { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l grpcLog) Warning(args ...any)                 { l.log.Debug(fmt.Sprint(args...)) }
func (l grpcLog) Warningln(args ...any)               { l.log.Debug(line(args)) }
func (l grpcLog) Warningf(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l grpcLog) Error(args ...any)                   { l.log.Warn(fmt.Sprint(args...)) }
func (l grpcLog) Errorln(args ...any)                 { l.log.Warn(line(args)) }
func (l grpcLog) Errorf(format string, args ...any)   { l.log.Warn(fmt.Sprintf(format, args...)) }
func (l grpcLog) Fatal(args ...any)                   { l.log.Fatal(fmt.Sprint(args...)) }
func (l grpcLog) Fatalln(args ...any)                 { l.log.Fatal(line(args)) }
func (l grpcLog) Fatalf(format string, args ...any)   { l.log.Fatal(fmt.Sprintf(format, args...)) }

// V reports whether details of this verbosity are wanted.
func (l grpcLog) V(level int) bool { return level <= 0 && l.log.Core().Enabled(zap.DebugLevel) }

func line(args []any) string { return strings.TrimSuffix(fmt.Sprintln(args...), "\n") }
