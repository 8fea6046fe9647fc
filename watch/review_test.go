package watch

import (
	"testing"
	"testing/synctest"
)

// A review ends the watchers that are not permitted any more, with the reason, and no others; nothing of them follows, not
// even what was on its way (G25).
func TestReview(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		refused := map[string]string{}
		permit := func(who string) func() string { return func() string { return refused[who] } }
		r.stream.Create(Request{Key: []byte("a"), Permit: permit("ann")})
		r.stream.Create(Request{Key: []byte("a"), Permit: permit("ben")})
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "0@1 created", "1@1 created", "2@1 created")
		f.hub.Review()
		f.expect(r)
		f.commit(put("a", "1"))
		synctest.Wait()
		f.expectAnyOrder(r, "0@2 a=1@2", "1@2 a=1@2", "2@2 a=1@2")
		refused["ann"] = "not any more"
		f.hub.Review()
		f.commit(put("a", "2"))
		f.expectAnyOrder(r, `0@2 canceled reason="not any more"`, "1@3 a=2@3", "2@3 a=2@3")
		f.hub.Review() // once is enough
		f.expect(r)

		refused["ben"] = "nor you"
		r.setStall(true)
		f.commit(put("a", "3"))
		synctest.Wait()
		f.hub.Review()
		r.setStall(false)
		synctest.Wait()
		f.commit(put("a", "4"))
		synctest.Wait()
		for _, got := range r.take() {
			if got.WatchID == 1 && !got.Canceled && got.Revision > 4 {
				t.Errorf("told of %d after it was ended", got.Revision)
			}
		}
	})
}

// A watcher that is refused between its authorization and its registration is not registered, and one that catches up is
// ended as well.
func TestReviewOfWatchersThatAreNotLive(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		f.commit(put("a", "1"))
		refused := ""
		r.stream.Create(Request{
			Key:       []byte("a"),
			Authorize: func(key, end []byte) string { refused = "too late"; return "" },
			Permit:    func() string { return refused },
		})
		f.expect(r, `-1@2 created canceled reason="too late"`)
		refused = ""
		r.setStall(true)
		r.stream.Create(Request{Key: []byte("a"), Start: 1, Permit: func() string { return refused }})
		synctest.Wait()
		refused = "gone"
		f.hub.Review()
		r.setStall(false)
		synctest.Wait()
		got := r.take()
		if last := got[len(got)-1]; !last.Canceled || last.CancelReason != "gone" {
			t.Errorf("the last response is %+v", last)
		}
	})
}
