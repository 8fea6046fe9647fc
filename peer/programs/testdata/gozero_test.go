package suite

import (
	"testing"
	"time"

	"github.com/zeromicro/go-zero/core/discov"
)

// TestDiscovery has services come and go. The package's own tests do without an etcd.
func TestDiscovery(t *testing.T) {
	endpoints := []string{"127.0.0.1:2379"}
	s, err := discov.NewSubscriber(endpoints, "service")
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{}, 1)
	s.AddListener(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	awaits := func(n int) {
		t.Helper()
		for len(s.Values()) != n {
			select {
			case <-changed:
			case <-time.After(time.Minute):
				t.Fatalf("%q are known, not %d", s.Values(), n)
			}
		}
	}
	first, second := discov.NewPublisher(endpoints, "service", "a:1"), discov.NewPublisher(endpoints, "service", "b:1")
	for i, p := range []*discov.Publisher{first, second} {
		if err := p.KeepAlive(); err != nil {
			t.Fatal(err)
		}
		awaits(i + 1)
	}
	first.Stop()
	awaits(1)
	second.Pause()
	awaits(0)
	second.Resume()
	awaits(1)
	second.Stop()
	awaits(0)
}
