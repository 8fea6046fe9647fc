package server

import (
	"net"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// notifyInit tells an init daemon, if one asked for it, that the member is ready. The lines are logged in any case.
func notifyInit(logger *zap.Logger) {
	logger.Info("notifying init daemon")
	if err := sayReady(os.Getenv("NOTIFY_SOCKET")); err != nil {
		logger.Error("failed to notify systemd for readiness", zap.Error(err))
		return
	}
	logger.Info("successfully notified init daemon")
}

func sayReady(socket string) error {
	if socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("READY=1"))
	return err
}

// noExit lets a fatal line be written without ending the process: Run's caller does that, with the exit code that the
// configuration wants.
type noExit struct{}

// OnWrite implements zapcore.CheckWriteHook.
func (noExit) OnWrite(*zapcore.CheckedEntry, []zapcore.Field) {}
