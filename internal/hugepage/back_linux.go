package hugepage

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// heapBytesMax is how much of the heap is in huge pages at most: a member with much in hand has some 600 MiB.
	heapBytesMax = 1 << 30
	// heapShareMax bounds it to a part of the machine's memory, which the system would refuse none of.
	heapShareMax = 4
	// growth is the piece in which Go's heap grows, and the largest huge page that is not too large for it.
	growth = 4 << 20
)

// Where the system says what is asked of programs.
const (
	hugePagesSetting  = "/sys/kernel/mm/transparent_hugepage/enabled"
	hugePageBytes     = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
	overcommitSetting = "/proc/sys/vm/overcommit_memory"
)

func back() {
	if !strings.Contains(read(hugePagesSetting), "[madvise]") || read(overcommitSetting) == "2" || strconv.IntSize < 64 {
		return
	}
	// Where pages have 64 KiB, one that is huge has 512 MiB.
	if size, err := strconv.Atoi(read(hugePageBytes)); err != nil || size > growth {
		return
	}
	var machine unix.Sysinfo_t
	if unix.Sysinfo(&machine) != nil {
		return
	}
	total := uint64(machine.Totalram) * uint64(machine.Unit)
	backBytes(int(min(heapBytesMax, total/heapShareMax)) / growth * growth)
}

func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// backBytes has so much of the heap in huge pages, and tells whether the system has been advised of it. What is advised to the system about a mapping stays with it, and Go's runtime keeps the
// address space of what it has freed. It maps in pieces of 4 MiB as the heap grows, so those would each have to be advised in
// time; a single object of that size is mapped at once.
func backBytes(size int) bool {
	// Where there is not so much, the runtime would end the process.
	probe, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil || unix.Munmap(probe) != nil {
		return false
	}
	heap := make([]byte, size) // fresh from the system: nobody writes to it
	err = unix.Madvise(heap, unix.MADV_HUGEPAGE)
	runtime.KeepAlive(heap)
	// The runtime takes what it has freed for memory, until it has given it back.
	debug.FreeOSMemory()
	return err == nil
}
