package config

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	compactionPeriodic = "periodic"
	compactionRevision = "revision"
)

// AutoCompaction is which history is removed without being asked. The zero value removes none. At most one of the two
// fields is set.
type AutoCompaction struct {
	Period    time.Duration // history kept, as time
	Revisions int64         // history kept, as a number of revisions
}

// Auto is the parsed form of the auto-compaction settings, which Load has checked.
func (c Compaction) Auto() AutoCompaction {
	auto, err := c.parseAuto()
	if err != nil {
		panic("config: auto compaction was not validated: " + err.Error())
	}
	return auto
}

func (c Compaction) validate() error {
	_, err := c.parseAuto()
	return err
}

func (c Compaction) parseAuto() (AutoCompaction, error) {
	var auto AutoCompaction
	n, errNumber := strconv.ParseInt(c.AutoRetention, 10, 64)
	switch c.AutoMode {
	case "":
		return auto, errors.New("undefined auto-compaction-mode")
	case compactionRevision:
		if c.AutoRetention == "" {
			break // as 0 is
		}
		if errNumber != nil || n < 0 {
			if _, err := time.ParseDuration(c.AutoRetention); err != nil { // which etcd would take for nanoseconds
				return auto, fmt.Errorf("error parsing CompactionRetention: %w", err)
			}
			return auto, fmt.Errorf("error parsing CompactionRetention: %s is no number of revisions", c.AutoRetention)
		}
		auto.Revisions = n
	case compactionPeriodic:
		if c.AutoRetention == "" {
			break // as 0 is
		}
		d := time.Duration(n) * time.Hour
		if errNumber != nil || n < 0 {
			var err error
			if d, err = time.ParseDuration(c.AutoRetention); err != nil {
				return auto, fmt.Errorf("error parsing CompactionRetention: %w", err)
			}
		} else if n > int64(1<<63-1)/int64(time.Hour) {
			return auto, fmt.Errorf("error parsing CompactionRetention: %d hours are out of range", n)
		}
		if d < 0 {
			return auto, fmt.Errorf("error parsing CompactionRetention: %v is negative", d)
		}
		auto.Period = d
	default:
		return auto, fmt.Errorf("unknown auto-compaction-mode %q", c.AutoMode)
	}
	return auto, nil
}
