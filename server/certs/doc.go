// Package certs says who this member proves to be on its connections, and whom it believes.
//
// There are two planes: the client plane (everything that clients connect to) and the peer plane (everything between
// members). Each has a Plane: certificate and key as a server and as a client, the authorities it trusts, the names it
// allows, what was revoked. From it follow the configuration of connections that are dialed (Client) and the handshakes
// of those that are accepted (Acceptor).
//
//	                 ┌─ Client ───► connections to other members: transport, bootstrap, api/peer
//	files ──► Plane ─┤
//	                 └─ Acceptor ─► every listener with TLS, whatever it serves
//
// All checks of a handshake are part of the plane's one configuration, so that no layout of listeners can miss one:
// chain, allowed names and revocation while the handshake runs, a peer's address right after it.
//
// # Files that change
//
// Certificates, keys and the list of what is revoked are looked at anew for every handshake: one stat for each file, and
// reading only if it has changed. What can't be read fails that handshake and nothing else. Trusted authorities are read
// once. Sessions are not resumed, so that every connection is judged by what the files say when it begins; one whose
// certificate is revoked later ends with the next EndRevoked.
//
// The package owns the files of certificates that the member makes itself. It leaves to others: which flags there are
// (config), who listens and how long a handshake may take (server, server/mux), and what a name in a certificate may do
// (api/identity). A Plane may be used by any goroutine and starts none.
//
// Source: the operations specification, chapter 2.
package certs
