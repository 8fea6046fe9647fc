//go:build !linux

package main

import (
	"context"
	"errors"
	"time"
)

var errNoLoad = errors.New("the load of the v2 API needs Linux")

func loopHTTP(context.Context, string, int, time.Duration, int, func(int) []byte) (httpLoad, error) {
	return httpLoad{}, errNoLoad
}

type polls struct{}

func openPolls(context.Context, string, int) (*polls, error) { return nil, errNoLoad }

func (*polls) answered(context.Context, int) (int, error) { return 0, errNoLoad }
func (*polls) close()                                     {}
