package hugepage

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

// backing is set for a process that is to back so many bytes, and to say what came of it.
const backing = "HUGEPAGE_TEST_BACKING"

func TestMain(m *testing.M) {
	size, err := strconv.Atoi(os.Getenv(backing))
	if err != nil {
		os.Exit(m.Run())
	}
	if !backBytes(size) {
		fmt.Println(false, 0, 0, false)
		return
	}
	free := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(free)
	grown := make([]byte, size/2)
	resident, advised := mapping(uintptr(unsafe.Pointer(unsafe.SliceData(grown))))
	fmt.Println(true, free[0].Value.Uint64(), resident, advised)
	runtime.KeepAlive(grown)
}

// backed is what a process says that has backed so many bytes under some limit of the shell: whether it has advised the system, how
// much the runtime has to give back, and of the mapping that its heap grows to then how much is in memory and whether that is advised.
func backed(t *testing.T, limit string, size int) (advised bool, free, resident int, heapAdvised bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "sh", "-c", limit+` && exec "$0"`, self)
	c.Env = append(os.Environ(), backing+"="+strconv.Itoa(size))
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n, err := fmt.Sscan(string(out), &advised, &free, &resident, &heapAdvised); err != nil {
		t.Fatalf("%d values in %q: %v", n, out, err)
	}
	return advised, free, resident, heapAdvised
}

// What the heap grows to later is advised, and none of it is in memory yet.
func TestBack(t *testing.T) {
	const size = 256 << 20
	if _, err := os.Stat(hugePagesSetting); err != nil {
		if advised, _, _, _ := backed(t, "true", size); advised {
			t.Error("advised where there are no huge pages")
		}
		return
	}
	advised, free, resident, heapAdvised := backed(t, "true", size)
	if !advised || !heapAdvised {
		t.Errorf("advised %v, the heap's later part %v", advised, heapAdvised)
	}
	if free > size/2 {
		t.Errorf("the runtime takes %d bytes for memory that it could give back", free)
	}
	if resident > 32<<20 {
		t.Errorf("%d bytes of it in memory", resident)
	}
}

// A process that may not have so much address space goes on without.
func TestBackWithinLimit(t *testing.T) {
	if advised, _, _, _ := backed(t, "ulimit -v 4000000", 8<<30); advised {
		t.Error("advised")
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "setting")
	if err := os.WriteFile(path, []byte("always [madvise] never\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(path); got != "always [madvise] never" {
		t.Errorf("%q", got)
	}
	if got := read(path + " that is not there"); got != "" {
		t.Errorf("%q", got)
	}
}

// mapping tells of the mapping at an address how many bytes are in memory, and whether it is to be in huge pages.
func mapping(at uintptr) (resident int, advised bool) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= at && at < to
		}
		if !inside {
			continue
		}
		_, _ = fmt.Sscanf(line, "Rss: %d kB", &resident)
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			return resident << 10, strings.Contains(flags+" ", " hg ")
		}
	}
	return 0, false
}
