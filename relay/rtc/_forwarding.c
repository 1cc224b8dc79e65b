/* The forwarder, compiled: relay/rtc/forwarding_python.py with the same names, drop causes and numbers.

   A packet's whole way is C: ready sockets, source address, payload type, rate, SSRC, libsrtp, statistics, header,
   libsrtp, send. STUN, DTLS, RTCP, strangers and every other case go to Python, from the one packet buffer.

   What keeps it safe:
   - Strangers send to this code. Sizes are checked before a byte is read; the buffer is fixed; a packet allocates
     nothing; each socket reads a bounded number of datagrams before another one is served.
   - Python may do anything in a callback: close this socket, free this leg, change the routes. So whatever is used
     after a callback is held by a reference of our own, and no pointer into a table lives across one. Nor does the
     kernel hold any: the epoll set has descriptors' numbers.
   - libsrtp is not linked: its functions come as addresses from pylibsrtp, whose contexts the forwarders keep alive.
   - One thread: the event loop's, with the GIL held. Only Poller.wait blocks, in place of the event loop. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What Python asks of this file, as a number: names, arguments and their meaning. forwarding.py has the same. */
#define INTERFACE 2
#define HEADER 12
#define MAX_DATAGRAM 1500
#define TRAILER 144       /* SRTP_MAX_TRAILER_LEN of libsrtp 2: what protecting may add */
#define OPUS_CLOCK 48000
#define LATE_PACKETS 1024
#define SOURCES_ALLOWED 2
#define BATCH 64
#define ROUNDS 4
#define LONGEST 3600.0    /* seconds of one wait */
#define NONE (-1)         /* no source, no floor: values are not negative */
#define ANOTHER_SOURCE (-2)
#define REPLAY_FAIL 9     /* srtp_err_status_replay_fail, _replay_old (srtp.h of libsrtp 2) */
#define REPLAY_OLD 10

typedef int (*srtp_function)(void *context, void *packet, int *size);

enum { NOT_READY, PAYLOAD_TYPE, RATE, SSRC, REPLAY, NOT_AUTHENTIC, OTHER_LEG_NOT_READY, MALFORMED, SEND_FAILED,
       CAUSES };
static const char *const CAUSE_NAMES[CAUSES] = {"NOT_READY", "PAYLOAD_TYPE", "RATE", "SSRC", "REPLAY", "NOT_AUTHENTIC",
                                                "OTHER_LEG_NOT_READY", "MALFORMED", "SEND_FAILED"};

/* Set once by configure(). */
static PyObject *causes[CAUSES];
static Py_buffer packet; /* the buffer itself, held for good so that it cannot be resized */
static uint8_t *data;
static PyObject *view;
static int read_bytes;
static srtp_function srtp_unprotect, srtp_protect;
/* Set before every call into Python: what that asked of the event loop must not wait for the next packet. */
static int called;

static uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}
static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static void put32(uint8_t *at, uint32_t value) {
    at[0] = value >> 24, at[1] = value >> 16, at[2] = value >> 8, at[3] = value;
}
static void put16(uint8_t *at, uint16_t value) { at[0] = value >> 8, at[1] = value; }

static double monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* dropped[cause] += 1 of a collections.Counter; 0, or -1 with an exception. */
static int count_drop(PyObject *dropped, int cause) {
    PyObject *before = PyDict_GetItemWithError(dropped, causes[cause]);
    if (!before && PyErr_Occurred()) return -1;
    PyObject *after = PyLong_FromLongLong(before ? PyLong_AsLongLong(before) + 1 : 1);
    if (!after || PyErr_Occurred()) {
        Py_XDECREF(after);
        return -1;
    }
    int result = PyDict_SetItem(dropped, causes[cause], after);
    Py_DECREF(after);
    return result;
}

/* --- Reader: a UDP socket; Sender: one address behind it ---------------------------------------------------------- */

/* An address in one form, comparable as bytes: IPv4 in the first four bytes. */
typedef struct {
    uint8_t ip[16];
    uint32_t scope;
    uint16_t port; /* network order */
    uint16_t family;
} Key;

typedef struct {
    Key key;
    PyObject *forwarder; /* NULL: a free slot */
    PyObject *send;
    PyObject *moved; /* or None */
} Route;

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

static PyTypeObject ReaderType, SenderType, ForwarderType, PollerType;

/* 1 sent, 0 not taken by the kernel: whatever the reason, UDP may lose. */
static int sender_send(Sender *self, const void *bytes, size_t size) {
    ssize_t sent;
    if (self->reader->fd < 0) return 0;
    const struct sockaddr *to = self->length ? (const struct sockaddr *)&self->address : NULL;
    do sent = sendto(self->reader->fd, bytes, size, MSG_DONTWAIT, to, self->length);
    while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

static PyObject *sender_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    Py_buffer bytes;
    if (PyVectorcall_NARGS(nargsf) != 1 || (kwnames && PyTuple_GET_SIZE(kwnames))) {
        PyErr_SetString(PyExc_TypeError, "one datagram");
        return NULL;
    }
    if (PyObject_GetBuffer(args[0], &bytes, PyBUF_SIMPLE) < 0) return NULL;
    int sent = sender_send((Sender *)self, bytes.buf, (size_t)bytes.len);
    PyBuffer_Release(&bytes);
    return PyBool_FromLong(sent);
}

static int sender_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((Sender *)self)->reader);
    return 0;
}

static void sender_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    Py_DECREF(((Sender *)self)->reader); /* never cleared before: a sender without a reader cannot be called */
    PyObject_GC_Del(self);
}

static PyTypeObject SenderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "relay.rtc._forwarding.Sender",
    .tp_basicsize = sizeof(Sender),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Sends one datagram to one address; False if the kernel does not take it.",
    .tp_vectorcall_offset = offsetof(Sender, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_traverse = sender_traverse,
    .tp_dealloc = sender_dealloc,
};

static void key_of(const struct sockaddr_storage *address, Key *key) {
    memset(key, 0, sizeof *key);
    key->family = address->ss_family;
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        memcpy(key->ip, &v4->sin_addr, 4);
        key->port = v4->sin_port;
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        memcpy(key->ip, &v6->sin6_addr, 16);
        key->port = v6->sin6_port, key->scope = v6->sin6_scope_id;
    }
}

/* A Python address, (host, port) or (host, port, flow, scope), as the kernel wants it; its length, 0: exception. */
static socklen_t parse_address(PyObject *address, struct sockaddr_storage *into) {
    const char *host;
    char literal[INET6_ADDRSTRLEN] = {0};
    int port;
    unsigned int flow = 0, scope = 0;
    memset(into, 0, sizeof *into);
    if (!PyTuple_Check(address)) {
        PyErr_SetString(PyExc_TypeError, "an address is a tuple");
        return 0;
    }
    if (!PyArg_ParseTuple(address, "si|II", &host, &port, &flow, &scope)) return 0;
    size_t size = strcspn(host, "%"); /* a scope's name; its number comes as the fourth value */
    struct sockaddr_in *v4 = (struct sockaddr_in *)into;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)into;
    if (size < sizeof literal && port >= 0 && port <= 65535) {
        memcpy(literal, host, size);
        if (inet_pton(AF_INET, literal, &v4->sin_addr) == 1) {
            v4->sin_family = AF_INET, v4->sin_port = htons((uint16_t)port);
            return sizeof *v4;
        }
        if (inet_pton(AF_INET6, literal, &v6->sin6_addr) == 1) {
            v6->sin6_family = AF_INET6, v6->sin6_port = htons((uint16_t)port);
            v6->sin6_flowinfo = htonl(flow), v6->sin6_scope_id = scope;
            return sizeof *v6;
        }
    }
    PyErr_SetString(PyExc_ValueError, "not a numeric address and port");
    return 0;
}

/* The tuple that the socket module makes of an address. */
static PyObject *address_tuple(const struct sockaddr_storage *from) {
    char host[INET6_ADDRSTRLEN];
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        return Py_BuildValue("si", host, (int)ntohs(v4->sin_port));
    }
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    return Py_BuildValue("siII", host, (int)ntohs(v6->sin6_port), ntohl(v6->sin6_flowinfo), v6->sin6_scope_id);
}

static size_t slot_of(const Reader *self, const Key *key) {
    /* FNV-1a. Only proven addresses are in the table, a few for each session: nobody fills it to slow others down. */
    uint64_t hash = 14695981039346656037u;
    const uint8_t *bytes = (const uint8_t *)key;
    for (size_t at = 0; at < sizeof *key; at++) hash = (hash ^ bytes[at]) * 1099511628211u;
    return (size_t)(hash >> 16) & (self->capacity - 1);
}

/* The route of an address; the free slot where it would be if there is none; NULL without a table. */
static Route *find_route(const Reader *self, const Key *key) {
    if (!self->capacity) return NULL;
    for (size_t at = slot_of(self, key);; at = (at + 1) & (self->capacity - 1)) {
        Route *route = &self->routes[at];
        if (!route->forwarder || memcmp(&route->key, key, sizeof *key) == 0) return route;
    }
}

static int grow_routes(Reader *self) {
    Route *before = self->routes;
    size_t size = self->capacity, capacity = size ? size * 2 : 2;
    Route *routes = PyMem_Calloc(capacity, sizeof *routes);
    if (!routes) {
        PyErr_NoMemory();
        return -1;
    }
    self->routes = routes, self->capacity = capacity;
    for (size_t at = 0; at < size; at++)
        if (before[at].forwarder) *find_route(self, &before[at].key) = before[at];
    PyMem_Free(before);
    return 0;
}

static void release_route(Route old) {
    Py_XDECREF(old.forwarder);
    Py_XDECREF(old.send);
    Py_XDECREF(old.moved);
}

static PyObject *reader_direct(Reader *self, PyObject *args) {
    PyObject *address, *forwarder, *send, *moved;
    struct sockaddr_storage parsed;
    Key key;
    if (!PyArg_ParseTuple(args, "OO!OO", &address, &ForwarderType, &forwarder, &send, &moved)) return NULL;
    if (!parse_address(address, &parsed)) return NULL;
    if (self->fd < 0) Py_RETURN_NONE;
    key_of(&parsed, &key);
    if (self->used * 2 >= self->capacity && grow_routes(self) < 0) return NULL;
    Route *route = find_route(self, &key);
    Route old = *route;
    self->used += !old.forwarder;
    *route = (Route){key, Py_NewRef(forwarder), Py_NewRef(send), Py_NewRef(moved)};
    release_route(old); /* last: it may run Python */
    Py_RETURN_NONE;
}

static PyObject *reader_undirect(Reader *self, PyObject *address) {
    struct sockaddr_storage parsed;
    Key key;
    if (!parse_address(address, &parsed)) return NULL;
    key_of(&parsed, &key);
    Route *route = find_route(self, &key);
    if (!route || !route->forwarder) Py_RETURN_NONE;
    Route old = *route;
    memset(route, 0, sizeof *route);
    self->used--;
    /* Those behind it may have been put there because its slot was taken: put them anew. */
    for (size_t at = (size_t)(route - self->routes);;) {
        at = (at + 1) & (self->capacity - 1);
        Route moved = self->routes[at];
        if (!moved.forwarder) break;
        memset(&self->routes[at], 0, sizeof moved);
        *find_route(self, &moved.key) = moved;
    }
    release_route(old);
    Py_RETURN_NONE;
}

static int reader_traverse(PyObject *op, visitproc visit, void *arg) {
    Reader *self = (Reader *)op;
    Py_VISIT(self->socket);
    Py_VISIT(self->on_read);
    Py_VISIT(self->dropped);
    Py_VISIT(self->fault);
    for (size_t at = 0; at < self->capacity; at++) {
        Py_VISIT(self->routes[at].forwarder);
        Py_VISIT(self->routes[at].send);
        Py_VISIT(self->routes[at].moved);
    }
    return 0;
}

static void forget_routes(Reader *self) {
    Route *routes = self->routes;
    size_t capacity = self->capacity;
    self->routes = NULL, self->capacity = self->used = 0;
    for (size_t at = 0; at < capacity; at++) release_route(routes[at]);
    PyMem_Free(routes);
}

static int reader_clear(PyObject *op) {
    Reader *self = (Reader *)op;
    self->fd = -1; /* what would be called is gone */
    forget_routes(self);
    Py_CLEAR(self->socket);
    Py_CLEAR(self->on_read);
    Py_CLEAR(self->dropped);
    Py_CLEAR(self->fault);
    return 0;
}

static void reader_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    reader_clear(self);
    PyObject_GC_Del(self);
}

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *sock, *on_read, *dropped, *fault;
    int reads;
    if (kwargs && PyDict_GET_SIZE(kwargs)) return PyErr_Format(PyExc_TypeError, "no keywords");
    if (!PyArg_ParseTuple(args, "OOO!iO", &sock, &on_read, &PyDict_Type, &dropped, &reads, &fault)) return NULL;
    int fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0) return NULL;
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->fd = fd, self->reads = reads;
    self->socket = Py_NewRef(sock), self->on_read = Py_NewRef(on_read);
    self->dropped = Py_NewRef(dropped), self->fault = Py_NewRef(fault);
    return (PyObject *)self;
}

static PyObject *reader_sender(Reader *self, PyObject *address) {
    struct sockaddr_storage parsed;
    socklen_t length = 0;
    if (address != Py_None && !(length = parse_address(address, &parsed))) return NULL;
    Sender *sender = PyObject_GC_New(Sender, &SenderType);
    if (!sender) return NULL;
    sender->vectorcall = sender_call;
    sender->reader = (Reader *)Py_NewRef(self);
    if (length) memcpy(&sender->address, &parsed, sizeof parsed);
    sender->length = length;
    PyObject_GC_Track(sender);
    return (PyObject *)sender;
}

/* Asking for the source costs nothing here, so that nothing changes when the socket is connected. */
static PyObject *reader_settle(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(address)) { Py_RETURN_NONE; }

static PyObject *reader_close(Reader *self, PyObject *Py_UNUSED(nothing)) {
    self->fd = -1;
    forget_routes(self);
    Py_RETURN_NONE;
}

/* --- Forwarder: the RTP of one leg --------------------------------------------------------------------------------- */

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

static PyObject *forwarder_send(Forwarder *self, PyObject *size);

static void begin_reception(Forwarder *self) {
    self->received = self->highest = self->cycles = self->expected_prior = self->received_prior = 0;
    self->base = self->transit = NONE;
    self->jitter = 0;
}

static long long expected(const Forwarder *self) {
    return self->base < 0 ? 0 : self->cycles + self->highest - self->base + 1;
}

static long long lost(const Forwarder *self) {
    long long missing = expected(self) - self->received;
    return missing > 0 ? missing : 0;
}

static void note_reception(Forwarder *self, uint16_t sequence, uint32_t timestamp, double arrival) {
    self->received++;
    if (self->base < 0) {
        self->base = self->highest = sequence;
    } else {
        uint16_t ahead = (uint16_t)(sequence - self->highest);
        if (ahead > 0 && ahead < 0x8000) {
            if (sequence < self->highest) self->cycles += 1 << 16;
            self->highest = sequence;
        }
    }
    /* Through 64 bits: a clock beyond 2^32 units is not undefined. */
    long long transit = (uint32_t)((uint32_t)(uint64_t)(long long)(arrival * OPUS_CLOCK) - timestamp);
    if (self->transit >= 0) {
        long long delta = transit > self->transit ? transit - self->transit : self->transit - transit;
        if (delta < OPUS_CLOCK * 2) self->jitter += ((double)delta - self->jitter) / 16; /* else a new base */
    }
    self->transit = transit;
}

/* Take extension and contributing sources out; the new size, 0 if lengths do not add up. */
static int strip_extension(int size) {
    int at = HEADER + 4 * (data[0] & 0x0F);
    if (data[0] & 0x10) {
        if (size < at + 4) return 0;
        at += 4 + 4 * get16(data + at + 2);
    }
    if (size < at) return 0;
    memmove(data + HEADER, data + at, (size_t)(size - at));
    data[0] &= 0xE0;
    return HEADER + size - at;
}

/* Rewriter.rewrite: the outgoing stream's header; the new size, 0 if malformed or if the number was used. */
static int rewrite(Forwarder *self, int size) {
    if (data[0] & 0x1F && !(size = strip_extension(size))) return 0;
    uint16_t sequence = get16(data + 2);
    uint32_t timestamp = get32(data + 4), source = get32(data + 8);
    if (source != self->rewritten_source) {
        if (self->rewritten_source == NONE) {
            self->highest_sent = sequence;
        } else {
            self->sequence_offset = (uint16_t)(self->highest_sent + 1 - sequence);
            self->floor = (uint16_t)(self->highest_sent + 1);
            self->timestamp_offset = self->newest_timestamp + OPUS_CLOCK / 50 - timestamp;
        }
        self->rewritten_source = source;
    }
    sequence = (uint16_t)(sequence + self->sequence_offset);
    timestamp += self->timestamp_offset;
    if (self->floor != NONE) {
        uint16_t ahead = (uint16_t)(sequence - self->floor);
        if (ahead > LATE_PACKETS && ahead < 0x8000) self->floor = NONE;
        if (ahead >= 0x8000) return 0;
    }
    if ((uint16_t)(sequence - self->highest_sent) < 0x8000) {
        self->highest_sent = sequence;
        self->newest_timestamp = timestamp;
    }
    data[1] = (uint8_t)((data[1] & 0x80) | self->payload_type);
    put16(data + 2, sequence);
    put32(data + 4, timestamp);
    put32(data + 8, self->ssrc);
    return size;
}

/* Send the packet in the buffer; 0, or -1 with an exception. The caller holds `self`. */
static int send_packet(Forwarder *self, int size) {
    if (!self->transmit) return count_drop(self->dropped, OTHER_LEG_NOT_READY);
    if (!(size = rewrite(self, size))) return count_drop(self->dropped, MALFORMED);
    int length = size, sent = 0;
    if (srtp_protect(self->transmit_context, data, &length) == 0 && length > 0 && length <= packet.len) {
        PyObject *send = self->send_datagram;
        if (!send) {
            PyErr_SetString(PyExc_AttributeError, "send_datagram");
            return -1;
        }
        if (Py_IS_TYPE(send, &SenderType)) {
            sent = sender_send((Sender *)send, data, (size_t)length);
        } else {
            /* TCP and TURN: Python, which may put another in its place while it runs. */
            called = 1;
            Py_INCREF(send);
            PyObject *piece = PySequence_GetSlice(view, 0, length);
            PyObject *result = piece ? PyObject_CallOneArg(send, piece) : NULL;
            Py_XDECREF(piece);
            Py_DECREF(send);
            sent = result ? PyObject_IsTrue(result) : -1;
            Py_XDECREF(result);
            if (sent < 0) return -1;
        }
    }
    if (!sent) return count_drop(self->dropped, SEND_FAILED);
    self->packets_out++;
    self->bytes_out += (unsigned)(size - HEADER);
    self->last_sent_at = monotonic();
    return 0;
}

/* Take the packet in the buffer, of at least HEADER bytes: 1 the peer's, 0 dropped, -1 an exception. */
static int take_packet(Forwarder *self, int size, double arrival) {
    int cause;
    if (!self->receive) {
        cause = NOT_READY;
        goto drop;
    }
    uint16_t sequence = get16(data + 2);
    uint32_t timestamp = get32(data + 4), ssrc = get32(data + 8);
    if ((data[1] & 0x7F) != self->payload_type) {
        cause = PAYLOAD_TYPE;
        goto drop;
    }
    if (++self->window_packets > self->packets_per_second) {
        cause = RATE;
        goto drop;
    }
    /* libsrtp keeps a context for every SSRC it authenticated. */
    if (ssrc != self->source && self->sources >= SOURCES_ALLOWED) {
        cause = SSRC;
        goto drop;
    }
    int status = srtp_unprotect(self->receive_context, data, &size);
    if (status || size < HEADER || size > read_bytes) {
        cause = status == REPLAY_FAIL || status == REPLAY_OLD ? REPLAY : NOT_AUTHENTIC;
        goto drop;
    }
    if (ssrc != self->source) {
        self->lost_before += lost(self);
        begin_reception(self);
        self->source = ssrc;
        self->sources++;
    }
    self->packets_in++;
    self->bytes_in += (unsigned)size;
    note_reception(self, sequence, timestamp, arrival);
    int result = 0;
    Py_INCREF(self);
    if (self->target) {
        Forwarder *target = (Forwarder *)Py_NewRef(self->target);
        result = send_packet(target, size);
        Py_DECREF(target);
    } else if (self->forward == Py_None) {
        result = count_drop(self->dropped, OTHER_LEG_NOT_READY);
    } else {
        called = 1;
        PyObject *forward = Py_NewRef(self->forward), *number = PyLong_FromLong(size);
        PyObject *done = number ? PyObject_CallOneArg(forward, number) : NULL;
        Py_XDECREF(number);
        Py_DECREF(forward);
        Py_XDECREF(done);
        result = done ? 0 : -1;
    }
    Py_DECREF(self);
    return result < 0 ? -1 : 1;
drop:
    return count_drop(self->dropped, cause);
}

/* A size that Python says is in the buffer; -1 with an exception. */
static int checked_size(PyObject *number) {
    long size = PyLong_AsLong(number);
    if (size == -1 && PyErr_Occurred()) return -1;
    if (size >= HEADER && size <= read_bytes) return (int)size;
    PyErr_SetString(PyExc_ValueError, "no size of a packet");
    return -1;
}

static PyObject *forwarder_on_packet(Forwarder *self, PyObject *const *args, Py_ssize_t count) {
    if (count < 1 || count > 2) return PyErr_Format(PyExc_TypeError, "size and arrival");
    int size = checked_size(args[0]);
    double arrival = size < 0 ? 0 : count == 2 && args[1] != Py_None ? PyFloat_AsDouble(args[1]) : monotonic();
    if (size < 0 || PyErr_Occurred()) return NULL;
    /* What has no place in 64 bits of samples is no time. */
    if (!(arrival > -1e12 && arrival < 1e12)) return PyErr_Format(PyExc_ValueError, "no time of arrival");
    int taken = take_packet(self, size, arrival);
    return taken < 0 ? NULL : PyBool_FromLong(taken);
}

static PyObject *forwarder_send(Forwarder *self, PyObject *number) {
    int size = checked_size(number);
    if (size < 0 || send_packet(self, size) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *forwarder_start(Forwarder *self, PyObject *args) {
    PyObject *receive, *transmit;
    int payload_type;
    if (!PyArg_ParseTuple(args, "OOi", &receive, &transmit, &payload_type)) return NULL;
    void *contexts[2] = {NULL, NULL};
    PyObject *given[2] = {receive, transmit};
    for (int at = 0; at < 2; at++) {
        PyObject *address = PyObject_GetAttrString(given[at], "address");
        if (!address) return NULL;
        contexts[at] = PyLong_AsVoidPtr(address);
        Py_DECREF(address);
        if (!contexts[at]) return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "no SRTP context");
    }
    self->receive_context = contexts[0], self->transmit_context = contexts[1];
    self->payload_type = payload_type;
    Py_XSETREF(self->receive, Py_NewRef(receive));
    Py_XSETREF(self->transmit, Py_NewRef(transmit));
    Py_RETURN_NONE;
}

static PyObject *forwarder_expect_other_source(Forwarder *self, PyObject *Py_UNUSED(nothing)) {
    if (self->rewritten_source != NONE) self->rewritten_source = ANOTHER_SOURCE;
    Py_RETURN_NONE;
}

static PyObject *forwarder_open_window(Forwarder *self, PyObject *Py_UNUSED(nothing)) {
    self->window_packets = 0;
    Py_RETURN_NONE;
}

static PyObject *forwarder_within_rate(Forwarder *self, PyObject *Py_UNUSED(nothing)) {
    return PyBool_FromLong(++self->window_packets <= self->packets_per_second);
}

static PyObject *forwarder_take_report(Forwarder *self, PyObject *Py_UNUSED(nothing)) {
    long long all = expected(self), due = all - self->expected_prior, fraction = 0;
    long long missing = due - (self->received - self->received_prior);
    self->expected_prior = all, self->received_prior = self->received;
    if (due > 0 && missing > 0) fraction = missing * 256 / due < 255 ? missing * 256 / due : 255;
    return Py_BuildValue("LLLL", fraction, lost(self), (self->cycles + self->highest) & 0xFFFFFFFF,
                         (long long)self->jitter);
}

static PyObject *get_source(Forwarder *self, void *Py_UNUSED(closure)) {
    if (self->source < 0) Py_RETURN_NONE;
    return PyLong_FromLongLong(self->source);
}

static PyObject *get_last_sent_at(Forwarder *self, void *Py_UNUSED(closure)) {
    if (self->last_sent_at < 0) Py_RETURN_NONE;
    return PyFloat_FromDouble(self->last_sent_at);
}

static PyObject *get_lost(Forwarder *self, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(self->lost_before + lost(self));
}

static PyObject *get_jitter(Forwarder *self, void *Py_UNUSED(closure)) {
    return PyFloat_FromDouble(self->jitter / OPUS_CLOCK);
}

static PyObject *get_forward(Forwarder *self, void *Py_UNUSED(closure)) { return Py_NewRef(self->forward); }

static int set_forward(Forwarder *self, PyObject *forward, void *Py_UNUSED(closure)) {
    if (!forward || (forward != Py_None && !PyCallable_Check(forward))) {
        PyErr_SetString(PyExc_TypeError, "forward takes a size");
        return -1;
    }
    int is_send = PyCFunction_CheckExact(forward) && PyCFunction_GET_FUNCTION(forward) == (PyCFunction)forwarder_send;
    self->target = is_send ? (Forwarder *)PyCFunction_GET_SELF(forward) : NULL;
    Py_XSETREF(self->forward, Py_NewRef(forward));
    return 0;
}

static int forwarder_traverse(PyObject *op, visitproc visit, void *arg) {
    Forwarder *self = (Forwarder *)op;
    Py_VISIT(self->forward);
    Py_VISIT(self->send_datagram);
    Py_VISIT(self->dropped);
    Py_VISIT(self->receive);
    Py_VISIT(self->transmit);
    return 0;
}

static int forwarder_clear(PyObject *op) {
    Forwarder *self = (Forwarder *)op;
    self->target = NULL;
    /* Stays callable: what is called must never be NULL. */
    Py_XSETREF(self->forward, Py_NewRef(Py_None));
    Py_XSETREF(self->send_datagram, Py_NewRef(Py_None));
    return 0;
}

static void forwarder_dealloc(PyObject *op) {
    Forwarder *self = (Forwarder *)op;
    PyObject_GC_UnTrack(op);
    if (self->weakrefs) PyObject_ClearWeakRefs(op);
    Py_XDECREF(self->forward);
    Py_XDECREF(self->send_datagram);
    Py_XDECREF(self->dropped);
    Py_XDECREF(self->receive);
    Py_XDECREF(self->transmit);
    PyObject_GC_Del(op);
}

static PyObject *forwarder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *send_datagram, *dropped;
    unsigned int ssrc;
    long long packets_per_second;
    if (kwargs && PyDict_GET_SIZE(kwargs)) return PyErr_Format(PyExc_TypeError, "no keywords");
    if (!PyArg_ParseTuple(args, "IOLO!", &ssrc, &send_datagram, &packets_per_second, &PyDict_Type, &dropped))
        return NULL;
    Forwarder *self = (Forwarder *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->forward = Py_NewRef(Py_None);
    self->send_datagram = Py_NewRef(send_datagram);
    self->dropped = Py_NewRef(dropped);
    self->ssrc = ssrc;
    self->packets_per_second = packets_per_second;
    self->payload_type = self->floor = NONE;
    self->source = self->rewritten_source = NONE;
    self->last_sent_at = -1;
    begin_reception(self);
    return (PyObject *)self;
}

static PyMethodDef forwarder_methods[] = {
    {"start", (PyCFunction)forwarder_start, METH_VARARGS, NULL},
    {"on_packet", (PyCFunction)(void (*)(void))forwarder_on_packet, METH_FASTCALL, NULL},
    {"send", (PyCFunction)forwarder_send, METH_O, NULL},
    {"expect_other_source", (PyCFunction)forwarder_expect_other_source, METH_NOARGS, NULL},
    {"open_window", (PyCFunction)forwarder_open_window, METH_NOARGS, NULL},
    {"within_rate", (PyCFunction)forwarder_within_rate, METH_NOARGS, NULL},
    {"take_report", (PyCFunction)forwarder_take_report, METH_NOARGS, NULL},
    {NULL},
};

static PyMemberDef forwarder_members[] = {
    {"packets_in", T_ULONGLONG, offsetof(Forwarder, packets_in), READONLY},
    {"bytes_in", T_ULONGLONG, offsetof(Forwarder, bytes_in), READONLY},
    {"packets_out", T_ULONGLONG, offsetof(Forwarder, packets_out), READONLY},
    {"bytes_out", T_ULONGLONG, offsetof(Forwarder, bytes_out), READONLY},
    {"newest_timestamp", T_UINT, offsetof(Forwarder, newest_timestamp), READONLY},
    {"dropped", T_OBJECT_EX, offsetof(Forwarder, dropped), READONLY},
    {"send_datagram", T_OBJECT_EX, offsetof(Forwarder, send_datagram), 0},
    {NULL},
};

static PyGetSetDef forwarder_getset[] = {
    {"source", (getter)get_source},
    {"last_sent_at", (getter)get_last_sent_at},
    {"lost", (getter)get_lost},
    {"jitter_seconds", (getter)get_jitter},
    {"forward", (getter)get_forward, (setter)set_forward},
    {NULL},
};

static PyTypeObject ForwarderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "relay.rtc._forwarding.Forwarder",
    .tp_basicsize = sizeof(Forwarder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "The RTP of one leg; see forwarding_python.",
    .tp_new = forwarder_new,
    .tp_dealloc = forwarder_dealloc,
    .tp_traverse = forwarder_traverse,
    .tp_clear = forwarder_clear,
    .tp_weaklistoffset = offsetof(Forwarder, weakrefs),
    .tp_methods = forwarder_methods,
    .tp_members = forwarder_members,
    .tp_getset = forwarder_getset,
};

/* --- reading ------------------------------------------------------------------------------------------------------- */

/* Hand the exception of one datagram to `fault`: it must not cost anybody else theirs. -1 if it is to end the loop. */
static int report_fault(Reader *self) {
    PyObject *type, *error, *trace;
    if (!PyErr_ExceptionMatches(PyExc_Exception) || !self->fault) return -1;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace) PyException_SetTraceback(error, trace);
    called = 1;
    PyObject *fault = Py_NewRef(self->fault), *dropped = Py_NewRef(self->dropped);
    PyObject *done = PyObject_CallFunctionObjArgs(fault, dropped, error, NULL);
    Py_DECREF(fault);
    Py_DECREF(dropped);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* RTP version 2 of usable length, and no RTCP (RFC 5761 section 4). */
static int is_rtp(ssize_t size) {
    return size >= HEADER && size <= MAX_DATAGRAM && (data[0] & 0xC0) == 0x80 && (data[1] & 0xE0) != 0xC0;
}

/* One datagram; 0, or -1 with an exception. */
static int on_datagram(Reader *self, int size, const struct sockaddr_storage *from) {
    if (is_rtp(size) && self->capacity) {
        Key key;
        key_of(from, &key);
        Route *route = find_route(self, &key);
        if (route && route->forwarder) {
            Forwarder *forwarder = (Forwarder *)Py_NewRef(route->forwarder);
            PyObject *send = Py_NewRef(route->send), *moved = Py_NewRef(route->moved);
            int taken = take_packet(forwarder, size, monotonic());
            if (taken > 0 && !forwarder->send_datagram) {
                PyErr_SetString(PyExc_AttributeError, "send_datagram");
                taken = -1;
            }
            if (taken > 0 && forwarder->send_datagram != send && moved != Py_None) {
                called = 1;
                PyObject *done = PyObject_CallNoArgs(moved);
                taken = done ? 1 : -1;
                Py_XDECREF(done);
            }
            Py_DECREF(forwarder);
            Py_DECREF(send);
            Py_DECREF(moved);
            return taken < 0 ? -1 : 0;
        }
    }
    called = 1;
    PyObject *on_read = Py_NewRef(self->on_read), *address = address_tuple(from), *done = NULL;
    if (address) done = PyObject_CallFunction(on_read, "iO", size, address);
    Py_DECREF(on_read);
    Py_XDECREF(address);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* Read what is there, up to the bound; -1 with an exception that is to end the loop. The caller holds `self`. */
static int read_some(Reader *self) {
    for (int left = self->reads; left > 0 && self->fd >= 0; left--) {
        struct sockaddr_storage from;
        socklen_t length = sizeof from;
        ssize_t size;
        do size = recvfrom(self->fd, data, (size_t)read_bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
        while (size < 0 && errno == EINTR);
        /* Nothing there, or an ICMP error of an earlier send; the consent checks decide what it means. */
        if (size < 0) return 0;
        if (length < sizeof(struct sockaddr_in)) continue;
        if (on_datagram(self, (int)size, &from) < 0 && report_fault(self) < 0) return -1;
    }
    return 0;
}

static PyObject *reader_read(Reader *self, PyObject *Py_UNUSED(nothing)) {
    Py_INCREF(self);
    int result = read_some(self);
    Py_DECREF(self);
    if (result < 0) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef reader_methods[] = {
    {"direct", (PyCFunction)reader_direct, METH_VARARGS, NULL},
    {"undirect", (PyCFunction)reader_undirect, METH_O, NULL},
    {"sender", (PyCFunction)reader_sender, METH_O, NULL},
    {"read", (PyCFunction)reader_read, METH_NOARGS, NULL},
    {"settle", (PyCFunction)reader_settle, METH_O, NULL},
    {"close", (PyCFunction)reader_close, METH_NOARGS, NULL},
    {NULL},
};

static PyTypeObject ReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "relay.rtc._forwarding.Reader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Reads a UDP socket into the packet buffer; see forwarding_python.",
    .tp_new = reader_new,
    .tp_dealloc = reader_dealloc,
    .tp_traverse = reader_traverse,
    .tp_clear = reader_clear,
    .tp_methods = reader_methods,
};

/* --- Poller: every reader of a loop -------------------------------------------------------------------------------- */

/* The epoll set holds numbers and no pointers: an entry that outlives its reader, because another process has the
   socket too or its number was given away, finds nobody or who has the number now, whom one read more does no harm. */
typedef struct {
    PyObject_HEAD
    int fd;
    int other; /* what wait() returns for, which has no reader */
    int capacity;
    Py_ssize_t used;
    Reader **readers; /* by descriptor */
} Poller;

static PyObject *poller_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) || (kwargs && PyDict_GET_SIZE(kwargs))) return PyErr_Format(PyExc_TypeError, "nothing");
    Poller *self = (Poller *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->other = -1;
    self->fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->fd >= 0) return (PyObject *)self;
    PyErr_SetFromErrno(PyExc_OSError);
    Py_DECREF(self);
    return NULL;
}

static Reader *reader_of(const Poller *self, int fd) {
    return fd >= 0 && fd < self->capacity ? self->readers[fd] : NULL;
}

/* Room for a descriptor; 0, or -1 with an exception. The system bounds descriptors, and so the table. */
static int grow_readers(Poller *self, int fd) {
    if (fd < self->capacity) return 0;
    int capacity = fd + 1 + fd / 2;
    Reader **readers = PyMem_Realloc(self->readers, (size_t)capacity * sizeof *readers);
    if (!readers) {
        PyErr_NoMemory();
        return -1;
    }
    memset(readers + self->capacity, 0, (size_t)(capacity - self->capacity) * sizeof *readers);
    self->readers = readers, self->capacity = capacity;
    return 0;
}

static PyObject *poller_add(Poller *self, PyObject *args) {
    int fd;
    PyObject *reader;
    if (!PyArg_ParseTuple(args, "iO!", &fd, &ReaderType, &reader)) return NULL;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(self->fd, EPOLL_CTL_ADD, fd, &event) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    if (grow_readers(self, fd) < 0) {
        epoll_ctl(self->fd, EPOLL_CTL_DEL, fd, NULL);
        return NULL;
    }
    Reader *before = self->readers[fd]; /* of a socket that was closed without saying so */
    self->used += !before;
    self->readers[fd] = (Reader *)Py_NewRef(reader);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

static PyObject *poller_remove(Poller *self, PyObject *number) {
    long given = PyLong_AsLong(number);
    if (given == -1 && PyErr_Occurred()) return NULL;
    int fd = given < 0 || given > INT_MAX ? -1 : (int)given;
    Reader *before = reader_of(self, fd);
    if (!before) Py_RETURN_NONE;
    epoll_ctl(self->fd, EPOLL_CTL_DEL, fd, NULL);
    self->readers[fd] = NULL;
    self->used--;
    Py_DECREF(before);
    Py_RETURN_NONE;
}

/* Let those that are ready read; -1 with an exception that is to end the loop. */
static int read_ready(Poller *self, const struct epoll_event *ready, int count) {
    int failed = 0;
    for (int at = 0; at < count && !failed; at++) {
        /* Asked for anew each time: a callback may have removed it, or closed us. */
        Reader *reader = reader_of(self, ready[at].data.fd);
        if (!reader) continue;
        Py_INCREF(reader);
        failed = read_some(reader) < 0;
        Py_DECREF(reader);
    }
    return failed ? -1 : 0;
}

static PyObject *poller_follow(Poller *self, PyObject *number) {
    int fd = PyObject_AsFileDescriptor(number);
    if (fd < 0) return NULL;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(self->fd, EPOLL_CTL_ADD, fd, &event) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    self->other = fd;
    Py_RETURN_NONE;
}

/* Wait so long, below 0 for ever, and serve meanwhile; see wait() in forwarding_python. */
static PyObject *wait_and_serve(Poller *self, double seconds) {
    double until = monotonic() + seconds;
    struct epoll_event ready[BATCH];
    /* Once there is something else to do, packets have some rounds before it. */
    int rounds = ROUNDS, over = 0, failed = 0;
    Py_INCREF(self);
    called = 0;
    while (self->fd >= 0 && !failed && (!(over || called) || --rounds)) {
        double left = over || called ? 0 : seconds < 0 ? seconds : until - monotonic();
        /* Rounded up, as the event loop does: a timer must not be looked at before its time. */
        int milliseconds = left < 0 && seconds < 0 ? -1 : left <= 0 ? 0 : left > LONGEST ? (int)LONGEST * 1000 : (int)(left * 1e3 + 0.999);
        int fd = self->fd, count;
        Py_BEGIN_ALLOW_THREADS
        count = epoll_wait(fd, ready, BATCH, milliseconds);
        Py_END_ALLOW_THREADS
        /* Its time is up, or a signal came. */
        if (count <= 0) break;
        int others = 0;
        for (int at = 0; at < count; at++) others |= ready[at].data.fd == self->other;
        over |= others;
        if (others && count == 1) break;
        failed = read_ready(self, ready, count) < 0;
        over |= seconds >= 0 && monotonic() >= until;
    }
    Py_DECREF(self);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *poller_wait(Poller *self, PyObject *number) {
    double seconds = PyFloat_AsDouble(number);
    return seconds == -1 && PyErr_Occurred() ? NULL : wait_and_serve(self, seconds);
}

static PyObject *poller_serve(Poller *self, PyObject *Py_UNUSED(nothing)) { return wait_and_serve(self, 0); }

static PyObject *poller_fileno(Poller *self, PyObject *Py_UNUSED(nothing)) { return PyLong_FromLong(self->fd); }

static int poller_clear(PyObject *op) {
    Poller *self = (Poller *)op;
    Reader **readers = self->readers;
    int capacity = self->capacity;
    if (self->fd >= 0) close(self->fd);
    self->fd = -1;
    self->readers = NULL, self->capacity = 0, self->used = 0;
    for (int at = 0; at < capacity; at++) Py_XDECREF(readers[at]);
    PyMem_Free(readers);
    return 0;
}

static PyObject *poller_close(Poller *self, PyObject *Py_UNUSED(nothing)) {
    poller_clear((PyObject *)self);
    Py_RETURN_NONE;
}

static Py_ssize_t poller_length(PyObject *self) { return ((Poller *)self)->used; }

static int poller_traverse(PyObject *op, visitproc visit, void *arg) {
    Poller *self = (Poller *)op;
    for (int at = 0; at < self->capacity; at++) Py_VISIT(self->readers[at]);
    return 0;
}

static void poller_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    poller_clear(self);
    PyObject_GC_Del(self);
}

static PyMethodDef poller_methods[] = {
    {"add", (PyCFunction)poller_add, METH_VARARGS, NULL},
    {"remove", (PyCFunction)poller_remove, METH_O, NULL},
    {"serve", (PyCFunction)poller_serve, METH_NOARGS, NULL},
    {"follow", (PyCFunction)poller_follow, METH_O, NULL},
    {"wait", (PyCFunction)poller_wait, METH_O, NULL},
    {"fileno", (PyCFunction)poller_fileno, METH_NOARGS, NULL},
    {"close", (PyCFunction)poller_close, METH_NOARGS, NULL},
    {NULL},
};

static PySequenceMethods poller_sequence = {.sq_length = poller_length};

static PyTypeObject PollerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "relay.rtc._forwarding.Poller",
    .tp_basicsize = sizeof(Poller),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Serves every ready reader in one callback of the event loop; see forwarding_python.",
    .tp_new = poller_new,
    .tp_dealloc = poller_dealloc,
    .tp_traverse = poller_traverse,
    .tp_clear = poller_clear,
    .tp_as_sequence = &poller_sequence,
    .tp_methods = poller_methods,
};

/* --- the module ---------------------------------------------------------------------------------------------------- */

static PyObject *configure(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *buffer, *piece_source, *names, *unprotect, *protect;
    int bytes;
    if (!PyArg_ParseTuple(args, "OOiO!O!O!", &buffer, &piece_source, &bytes, &PyLong_Type, &unprotect, &PyLong_Type,
                          &protect, &PyDict_Type, &names))
        return NULL;
    if (data) Py_RETURN_NONE;
    for (int at = 0; at < CAUSES; at++) {
        PyObject *cause = PyDict_GetItemString(names, CAUSE_NAMES[at]);
        if (!cause) return PyErr_Format(PyExc_ValueError, "no drop cause %s", CAUSE_NAMES[at]);
        Py_XSETREF(causes[at], Py_NewRef(cause));
    }
    srtp_unprotect = (srtp_function)PyLong_AsVoidPtr(unprotect);
    srtp_protect = (srtp_function)PyLong_AsVoidPtr(protect);
    if (!srtp_unprotect || !srtp_protect) return PyErr_Format(PyExc_ValueError, "no libsrtp");
    if (PyObject_GetBuffer(buffer, &packet, PyBUF_WRITABLE) < 0) return NULL;
    if (bytes < MAX_DATAGRAM || bytes > packet.len - TRAILER) {
        PyBuffer_Release(&packet);
        return PyErr_Format(PyExc_ValueError, "the packet buffer is too small");
    }
    view = Py_NewRef(piece_source);
    read_bytes = bytes;
    data = packet.buf;
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {{"configure", configure, METH_VARARGS, NULL}, {NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "relay.rtc._forwarding", NULL, -1, module_methods};

PyMODINIT_FUNC PyInit__forwarding(void) {
    PyObject *self = PyModule_Create(&module);
    if (!self || PyModule_AddIntMacro(self, INTERFACE) < 0 || PyType_Ready(&SenderType) < 0 || PyModule_AddType(self, &ReaderType) < 0 ||
        PyModule_AddType(self, &ForwarderType) < 0 || PyModule_AddType(self, &PollerType) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    return self;
}
