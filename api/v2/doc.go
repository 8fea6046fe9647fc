// Package v2 is the v2 HTTP API: paths, forms and numeric codes on the outside, commands and views of the tree on the
// inside. Wire shapes stop here.
//
//	/v2/keys      request (a form) ──► TreePut, TreeDelete ──► Member.Propose ──► event or refusal, as JSON
//	              request ──► view of the tree ──► JSON, written as the view is walked
//	              request ──► Hub: waits until an event matches
//	/v2/members, /v2/machines, /v2/stats   membership and numbers
//
// The Hub is fed by the one who applies, after each run, and wakes whom an event concerns. It keeps one small record per
// wait and finds the waits by path: an event costs what it wakes, not what waits.
//
// Everything may be called from anywhere. Handler never redirects: every member answers every request itself.
//
// Source: v2 API specification; its sections are named where they are followed.
package v2
