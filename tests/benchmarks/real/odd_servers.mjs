// Servers whose response stays the same however often a request is repeated: node odd_servers.mjs '{"certificates": FOLDER, "log": FILE, "ports": {...}}'
import fs from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import zlib from 'node:zlib'

const { certificates, log, ports } = JSON.parse(process.argv[2])
const body = Buffer.from(JSON.stringify({
  success: true,
  data: { pages: [{ url: '/', total_interactions: 1, last_updated: '2026-02-07T14:30:00.000Z' }] },
  timestamp: '2026-02-07T12:00:00.000Z',
}))
const json = { 'content-type': 'application/json' }

// One line for each request, or for each connection where no request can be read.
const note = (name, method) => fs.appendFileSync(log, `${name} 0 ${method} /\n`)
function serve(name, respond) {
  http.createServer((request, response) => { note(name, request.method); respond(request, response) }).listen(ports[name], '127.0.0.1')
}
const encoded = (name, data) => (_, response) => response.writeHead(200, { ...json, 'content-encoding': name }).end(data)
serve('gzip', encoded('gzip', zlib.gzipSync(body)))
serve('deflate', encoded('deflate', zlib.deflateSync(body)))
serve('br', encoded('br', zlib.brotliCompressSync(body)))
serve('zstd', encoded('zstd', zlib.zstdCompressSync ? zlib.zstdCompressSync(body) : body))
serve('huge-header', (_, response) => response.writeHead(200, { ...json, 'x-large': 'x'.repeat(9000) }).end(body))
serve('early-hints', (_, response) => { response.writeEarlyHints({ link: '</a>; rel=preload' }); response.writeHead(200, json).end(body) })
serve('trickle', (_, response) => {
  response.writeHead(200, json)
  for (let at = 0; at < body.length; at += 10) setTimeout(() => response.write(body.subarray(at, at + 10)), at / 2)
  setTimeout(() => response.end(), body.length / 2 + 20)
})

const h2 = http2.createServer((_, response) => { response.writeHead(200, json); response.end(body) })
h2.on('session', () => note('h2-clear', 'connection'))
h2.listen(ports['h2-clear'], '127.0.0.1')

const pem = name => fs.readFileSync(`${certificates}/${name}.pem`)
const h2s = http2.createSecureServer({ key: pem('key'), cert: pem('chain'), allowHTTP1: false }, (_, response) => { response.writeHead(200, json); response.end(body) })
h2s.on('secureConnection', () => note('h2-tls', 'connection'))
h2s.on('tlsClientError', () => note('h2-tls', 'connection'))
h2s.listen(ports['h2-tls'], '127.0.0.1')

// A proxy that wants a password.
const proxy = http.createServer((request, response) => { note('proxy-407', request.method); response.writeHead(407, { 'proxy-authenticate': 'Basic' }).end() })
proxy.on('connect', (_, socket) => { note('proxy-407', 'CONNECT'); socket.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n') })
proxy.listen(ports['proxy-407'], '127.0.0.1')
