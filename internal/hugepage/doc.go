// Package hugepage has the process's heap in huge pages where the system leaves that to programs.
package hugepage

// Back has the heap that the process will grow to, up to some bound, in huge pages. It takes address space
// for it but no memory, and a collection. It is to be called once, while the heap is small.
//
// It does nothing but on Linux, and only where programs are to ask for huge pages ("madvise"): elsewhere all programs have them, or
// none. Nor does it where a huge page is larger than 4 MiB, where a limit keeps the process from having so much address space, or
// where the system promises no memory that it does not have.
func Back() { back() }
