// Is a text a well-formed value? Needs no database: mistyped ones are refused.
using System;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;

static class Suffix
{
    static readonly Regex Shape =
        new Regex(@"\A([a-z][a-z0-9]{0,7}\.[0-9A-Za-z]{43})/([0-9A-Z]{7})\z");
    const string Digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    static bool IsWellformed(string key)
    {
        Match match = Shape.Match(key);
        if (!match.Success)
            return false;
        byte[] digest;
        using (var sha256 = SHA256.Create())
            digest = sha256.ComputeHash(Encoding.ASCII.GetBytes(match.Groups[1].Value));
        long bits = 0;
        for (int i = 27; i < 32; i++)
            bits = bits << 8 | digest[i];
        for (int i = 6; i >= 0; i--, bits >>= 5)
            if (match.Groups[2].Value[i] != Digits[(int) (bits & 31)])
                return false;
        return true;
    }

    static void Main()
    {
        for (string line; (line = Console.ReadLine()) != null;)
            Console.WriteLine(IsWellformed(line) ? "yes" : "no");
    }
}
