// A real OIDC server for the tests: panva's oidc-provider with client credentials and keys that can rotate.
// PORT and ALG come from the environment. POST /test/rotate: a new key signs, the old ones stay listed.
// POST /test/withdraw: only the newest keys stay listed.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider } from 'oidc-provider';

const port = Number(process.env.PORT);
const issuer = `http://127.0.0.1:${port}`;
const alg = process.env.ALG ?? 'RS256';
const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  Ed25519: ['ed25519', {}],
};

function newKey(name) {
  const { privateKey } = generateKeyPairSync(...kinds[name]);
  return { ...privateKey.export({ format: 'jwk' }), alg: name, use: 'sig', kid: randomUUID() };
}

const freshKeys = () => Object.keys(kinds).map(newKey);

function resourceServer(_ctx, audience) {
  return {
    audience,
    scope: 'orders:read orders:write',
    accessTokenFormat: 'jwt',
    accessTokenTTL: 300,
    jwt: { sign: { alg } },
  };
}

function configured(keys) {
  return new Provider(issuer, {
    jwks: { keys },
    scopes: ['orders:read', 'orders:write'],
    clients: [
      {
        client_id: 'robot',
        client_secret: 'a-secret-for-tests-only-0123456789',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
    ],
    extraTokenClaims: () => ({ roles: ['admin'], plan: 'pro' }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'https://api.example.test',
        useGrantedResource: () => true,
        getResourceServerInfo: resourceServer,
      },
    },
  }).callback();
}

let keys = freshKeys();
let answer = configured(keys);

function reset(next, res) {
  keys = next;
  answer = configured(keys);
  res.end('ok');
}

createServer((req, res) => {
  if (req.url === '/test/rotate') return reset([...freshKeys(), ...keys], res);
  if (req.url === '/test/withdraw') return reset(keys.slice(0, Object.keys(kinds).length), res);
  return answer(req, res);
}).listen(port, '127.0.0.1');
