// Is a text a well-formed value? Needs no database: mistyped ones are refused.
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'

const shape = /^([a-z][a-z0-9]{0,7}\.[0-9A-Za-z]{43})\/([0-9A-Z]{7})$/
const digits = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

export function isWellformed (key) {
  const [, covered, suffix] = shape.exec(key) ?? []
  if (!covered) return false
  let bits = BigInt('0x' + createHash('sha256').update(covered).digest('hex').slice(-10))
  let right = ''
  for (let i = 0; i < 7; i++, bits >>= 5n) right = digits[Number(bits & 31n)] + right
  return suffix === right
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(isWellformed(line) ? 'yes' : 'no')
}
