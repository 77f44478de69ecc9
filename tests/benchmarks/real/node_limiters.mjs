// Rate limiters of npm in front of the documented response: node node_limiters.mjs '{"log": FILE, "limiters": [{"port": ..., "kind": ...}]}'
import fs from 'node:fs'
import http from 'node:http'
import express from 'express'
import { rateLimit } from 'express-rate-limit'
import Fastify from 'fastify'
import fastifyLimit from '@fastify/rate-limit'
import { Hono } from 'hono'
import { createAdaptorServer } from '@hono/node-server'
import { rateLimiter as honoLimiter } from 'hono-rate-limiter'
import { RateLimiterMemory } from 'rate-limiter-flexible'

const { log, limiters } = JSON.parse(process.argv[2])
const path = '/api/external/v1/heatmaps/:id/pages'
const now = () => new Date().toISOString()
const page = () => ({ success: true, data: { pages: [{ url: '/', total_interactions: 1, last_updated: now() }] }, timestamp: now() })
const rejection = () => ({ success: false, error: { message: 'Rate limit exceeded', code: 'RATE_LIMIT_EXCEEDED', timestamp: now() } })
const work = () => new Promise(done => setTimeout(done, 10 + Math.random() * 20))
const keyOf = request => String(request.headers['x-api-key'])

function listen(server, port) {
  server.on('request', (request, response) => response.on('finish', () =>
    fs.appendFileSync(log, `${keyOf(request)} ${response.statusCode} ${request.method} ${request.url}\n`)))
  server.keepAliveTimeout = 60000
  server.listen(port, '127.0.0.1')
}

// The limit of a key that is lowered, without a word, some seconds after the key's first request.
function lowered(limit, [after, to]) {
  const first = new Map()
  return request => {
    const key = keyOf(request)
    if (!first.has(key)) first.set(key, Date.now())
    return Date.now() - first.get(key) < 1000 * after ? limit : to
  }
}

const kinds = {
  // Headers that are given replace those of the limiter; null removes one.
  async express({ headers, limit, window, lower, instead = {} }) {
    const app = express()
    app.use((request, response, next) => {
      const writeHead = response.writeHead
      response.writeHead = function (...rest) {
        for (const [name, value] of Object.entries(instead)) value === null ? response.removeHeader(name) : response.setHeader(name, value)
        return writeHead.apply(this, rest)
      }
      next()
    })
    app.use(rateLimit({
      windowMs: 1000 * window, limit: lower ? lowered(limit, lower) : limit, keyGenerator: keyOf, validate: false, message: rejection,
      legacyHeaders: headers === 'legacy', standardHeaders: headers.startsWith('draft') && headers,
    }))
    app.get(path, async (request, response) => { await work(); response.json(page()) })
    return http.createServer(app)
  },
  async hono({ headers, limit, window }) {
    const app = new Hono()
    app.use(honoLimiter({
      windowMs: 1000 * window, limit, keyGenerator: c => c.req.header('x-api-key'), handler: c => c.json(rejection(), 429), standardHeaders: headers,
    }))
    app.get(path, async c => { await work(); return c.json(page()) })
    return createAdaptorServer({ fetch: app.fetch })
  },
  async fastify({ limit, window }) {
    const app = Fastify()
    await app.register(fastifyLimit, { max: limit, timeWindow: 1000 * window, keyGenerator: keyOf })
    app.get(path, async () => { await work(); return page() })
    await app.ready()
    return app.server
  },
  async flexible({ limit, window }) {
    const limiter = new RateLimiterMemory({ points: limit, duration: window })
    return http.createServer(async (request, response) => {
      const state = await limiter.consume(keyOf(request), 1).then(s => ({ ...s, ok: true, left: s.remainingPoints, ms: s.msBeforeNext }), s => ({ ok: false, left: 0, ms: s.msBeforeNext }))
      response.setHeader('Content-Type', 'application/json')
      // As its documentation sets them.
      response.setHeader('Retry-After', state.ms / 1000)
      response.setHeader('X-RateLimit-Limit', limit)
      response.setHeader('X-RateLimit-Remaining', state.left)
      response.setHeader('X-RateLimit-Reset', Math.ceil((Date.now() + state.ms) / 1000))
      if (!state.ok) { response.statusCode = 429; return response.end(JSON.stringify(rejection())) }
      await work()
      response.end(JSON.stringify(page()))
    })
  },
}
for (const limiter of limiters) listen(await kinds[limiter.kind](limiter), limiter.port)
