/* The forwarder, compiled: relay/rtc/forwarding_python.py with the same names, drop causes and numbers.

   A packet's whole way is C: ready sockets (poller.c), source address (reader.c), payload type, rate, SSRC, libsrtp,
   statistics, header, libsrtp, send (forwarder.c). STUN, DTLS, RTCP, strangers and every other case go to Python, from
   the one packet buffer.

   What keeps it safe:
   - Strangers send to this code. Sizes are checked before a byte is read; the buffer is fixed; a packet allocates
     nothing; each socket reads a bounded number of datagrams before another one is served.
   - Python may do anything in a callback: close this socket, free this leg, change the routes. So whatever is used
     after a callback is held by a reference of our own, and no pointer into a table lives across one. Nor does the
     kernel hold any: the epoll set has descriptors' numbers.
   - libsrtp is not linked: its functions come as addresses from pylibsrtp, whose contexts the forwarders keep alive.
   - One thread: the event loop's, with the GIL held. Only Poller.wait blocks, in place of the event loop. */

#ifndef RELAY_FORWARDING_H
#define RELAY_FORWARDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#define HEADER 12
#define MAX_DATAGRAM 1500

/* None of this is for other libraries. Said here and not by the compiler's flag alone, which is for definitions: else
   each use from another file would go through the dynamic linker's tables. */
#pragma GCC visibility push(hidden)

/* --- shared by all files, held in module.c ------------------------------------------------------------------------ */

typedef int (*srtp_function)(void *context, void *packet, int *size);

/* In the order of CAUSE_NAMES in module.c. */
enum { NOT_READY, PAYLOAD_TYPE, RATE, SSRC, REPLAY, NOT_AUTHENTIC, OTHER_LEG_NOT_READY, MALFORMED, SEND_FAILED,
       CAUSES };

/* Set once by configure(). */
extern PyObject *causes[CAUSES];
extern Py_buffer packet; /* the buffer itself, held for good so that it cannot be resized */
extern uint8_t *data;
extern PyObject *view;
extern int read_bytes;
extern srtp_function srtp_unprotect, srtp_protect;
/* Set before every call into Python: what that asked of the event loop must not wait for the next packet. */
extern int called;

/* --- reader.c ----------------------------------------------------------------------------------------------------- */

typedef struct Route Route;

typedef struct {
    PyObject_HEAD
    int fd; /* -1 once closed; the socket belongs to Python's socket object */
    int reads;
    PyObject *socket, *on_read, *dropped, *fault;
    Route *routes; /* open addressing; capacity is a power of two, at most half full */
    size_t capacity, used;
} Reader;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    Reader *reader;
    struct sockaddr_storage address;
    socklen_t length; /* 0: the socket is connected */
} Sender;

extern PyTypeObject ReaderType, SenderType;

/* Read what is there, up to the bound; -1 with an exception that is to end the loop. The caller holds `self`. */
int read_some(Reader *self);

/* --- forwarder.c -------------------------------------------------------------------------------------------------- */

typedef struct Forwarder {
    PyObject_HEAD
    PyObject *forward, *send_datagram, *dropped, *receive, *transmit, *weakrefs;
    struct Forwarder *target; /* whose send `forward` is, if it is one: alive while `forward` is */
    void *receive_context, *transmit_context;
    unsigned long long packets_in, bytes_in, packets_out, bytes_out;
    long long packets_per_second, window_packets;
    int payload_type, sources;
    long long source, lost_before;
    double last_sent_at; /* negative: never */
    /* Rewriter of relay/core/rtp.py. */
    uint32_t ssrc, timestamp_offset, newest_timestamp;
    uint16_t sequence_offset, highest_sent;
    long long rewritten_source;
    int floor;
    /* Reception of relay/core/rtp.py. */
    long long received, base, highest, cycles, transit, expected_prior, received_prior;
    double jitter;
} Forwarder;

extern PyTypeObject ForwarderType;

/* Take the packet in the buffer, of at least HEADER bytes: 1 the peer's, 0 dropped, -1 an exception. */
int take_packet(Forwarder *self, int size, double arrival);

/* --- poller.c ----------------------------------------------------------------------------------------------------- */

extern PyTypeObject PollerType;

#pragma GCC visibility pop

/* --- needed for every packet by more than one file: inline -------------------------------------------------------- */

static inline double monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* 1 sent, 0 not taken by the kernel: whatever the reason, UDP may lose. */
static inline int sender_send(Sender *self, const void *bytes, size_t size) {
    ssize_t sent;
    if (self->reader->fd < 0) return 0;
    const struct sockaddr *to = self->length ? (const struct sockaddr *)&self->address : NULL;
    do sent = sendto(self->reader->fd, bytes, size, MSG_DONTWAIT, to, self->length);
    while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

#endif
