// Is a text a well-formed value? Needs no database: mistyped ones are refused.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

class Suffix {
    static final Pattern SHAPE =
        Pattern.compile("([a-z][a-z0-9]{0,7}\\.[0-9A-Za-z]{43})/([0-9A-Z]{7})");
    static final String DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    static boolean isWellformed(String key) throws Exception {
        Matcher match = SHAPE.matcher(key);
        if (!match.matches())
            return false;
        byte[] digest = MessageDigest.getInstance("SHA-256")
            .digest(match.group(1).getBytes(StandardCharsets.US_ASCII));
        long bits = 0;
        for (int i = 27; i < 32; i++)
            bits = bits << 8 | digest[i] & 0xFF;
        for (int i = 6; i >= 0; i--, bits >>= 5)
            if (match.group(2).charAt(i) != DIGITS.charAt((int) (bits & 31)))
                return false;
        return true;
    }

    public static void main(String[] args) throws Exception {
        BufferedReader lines = new BufferedReader(
            new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null;)
            System.out.println(isWellformed(line) ? "yes" : "no");
    }
}
